/** Records, resources and leaders for tests of what monitors and owners store. */
import {
  type Keys,
  RESOURCE_API_VERSION,
  type SourceReport,
  workerManifestSchema,
  type WorkerRecord,
  type WorkerResource,
} from '@carrierarr/protocol';
import { createResource, Leadership, type RedisConnection } from '@carrierarr/store';

export const BIRTH = { uid: 'u-1', nowIso: '2025-01-01T00:00:00.000Z' };

export function workerManifest(name: string, spec: Record<string, unknown> = {}, labels: Record<string, string> = {}) {
  return workerManifestSchema.parse({
    apiVersion: RESOURCE_API_VERSION,
    kind: 'Worker',
    metadata: { name, labels },
    spec,
  });
}

export function workerResource(name: string, spec: Record<string, unknown> = {}): WorkerResource {
  return createResource(workerManifest(name, spec), BIRTH);
}

export function record(id: string, overrides: Partial<WorkerRecord> = {}): WorkerRecord {
  return { id, provider: 'ec2', state: 'running', target: id, mapped_by: 'id', source: 'ec2/x', ...overrides };
}

export function report(polledMs: number | undefined, overrides: Partial<SourceReport> = {}): SourceReport {
  return {
    ...{ source: 'ec2/x', ok: true, interval_ms: 10_000, calls: 1, workers: 0 },
    ...(polledMs !== undefined && { polled_at: new Date(polledMs).toISOString() }),
    ...overrides,
  };
}

/** The fence of a leader that leads for as long as a test takes. */
export async function lead(connection: RedisConnection, keys: Keys, holder = 'leader'): Promise<number> {
  const answer = await new Leadership({ connection, keys, leaseMs: 600_000 }).hold(holder);
  if (!answer.leads) throw new Error(`${answer.holder} leads`);
  return answer.fence;
}

/** Lets the lease run out, as if its holder had not renewed it in time. */
export async function expireLease(connection: RedisConnection, keys: Keys): Promise<void> {
  const [seconds] = await connection.time();
  await connection.hset(keys.leader(), 'until', Number(seconds) * 1000 - 1);
}
