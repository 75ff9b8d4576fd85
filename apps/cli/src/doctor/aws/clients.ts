/** AWS for checks: one try with a short wait, in the regions that monitors would watch. The SDK is loaded when it is needed. */
import type { Means } from '../check.js';

export const NO_AWS = 'nothing of AWS is named (--ec2-tags, --ecs-cluster)';

export function clientSettings({ config, version }: Means, region?: string, profile?: string) {
  return {
    ...(region !== undefined && { region }),
    ...(profile !== undefined && { profile }),
    maxAttempts: 1,
    customUserAgent: [['carrierarr', version]] as [string, string][],
    requestHandler: {
      connectionTimeout: config.timeout / 2,
      requestTimeout: config.timeout,
      throwOnRequestTimeout: true,
    },
  };
}

/** An error of a call, in the name that AWS gave it. */
export interface AwsError {
  readonly name: string;
  readonly message: string;
}

export function isDenied({ name }: AwsError): boolean {
  return /^(UnauthorizedOperation|AccessDenied|AccessDeniedException|UnrecognizedClientException|AuthFailure)$/.test(
    name,
  );
}

/** The error of a call; undefined if it succeeded. */
export async function errorOf(call: Promise<unknown>): Promise<AwsError | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    const { name, message } = error as Error;
    return { name, message };
  }
}
