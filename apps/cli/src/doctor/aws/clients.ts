/** AWS for checks: one try with a short wait, in the regions that monitors would watch. The SDK is loaded when it is needed. */
import { type Means, Unseen } from '../check.js';

export const NO_AWS = 'nothing of AWS is named (--ec2-tags, --ecs-cluster)';

/** A part of the SDK. The images of gateways and runners have none of it: throws `Unseen` there. */
export async function loadSdk<T>(load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new Unseen('this image has no AWS SDK; those of the monitor and of everything in one have it');
  }
}

export function clientSettings({ config, version }: Means, region?: string) {
  return {
    ...(region !== undefined && { region }),
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
