/**
 * The metadata endpoint of an ECS task, version 4. The instance id of a task is its ARN, as the monitors' ECS source has
 * it, so that both are one row.
 * https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4.html
 */
import { httpRequest } from '../status/http.js';
import type { CloudIdentity } from './cloud-identity.js';

const TIMEOUT_MS = 2_000;

/** Undefined if it does not answer as it should. Never rejects. `base`: ECS_CONTAINER_METADATA_URI_V4. */
export async function ecsIdentity(base: string): Promise<CloudIdentity | undefined> {
  try {
    const { status, body } = await httpRequest(`${base.replace(/\/$/, '')}/task`, { timeoutMs: TIMEOUT_MS });
    return status === 200 ? ecsIdentityOf(JSON.parse(body)) : undefined;
  } catch {
    return undefined;
  }
}

/** From the answer of `/task`. */
export function ecsIdentityOf(task: unknown): CloudIdentity | undefined {
  const { TaskARN: arn, AvailabilityZone: az } = (task ?? {}) as { TaskARN?: unknown; AvailabilityZone?: unknown };
  if (typeof arn !== 'string' || !arn.startsWith('arn:')) return undefined;
  return { instanceId: arn, region: arn.split(':')[3] ?? '', az: typeof az === 'string' ? az : '', publicIp: '' };
}
