/**
 * A pool's Workers in a backup. A pool makes its Workers by itself, under the lowest free ordinals. That is right only
 * where it has just those: after a scale-in of `gpu-0` and `gpu-1` a pool of two has `gpu-2` and `gpu-3`, and one that
 * made `gpu-0` and `gpu-1` anew would start two machines beside the two that run. So where the Workers are not what the
 * pool would make, they are written down, in the pool's `status`: `import` reads it, `apply` leaves it aside. Pure.
 */
import { isDeepStrictEqual } from 'node:util';
import {
  backupStatusSchema,
  type Manifest,
  POOL_LABEL,
  type PoolMember,
  RESOURCE_API_VERSION,
  type WorkerPoolResource,
  type WorkerResource,
} from '@carrierarr/protocol';

/** What to write down of a pool's Workers; undefined where the pool would make just these. */
export function membersOf(pool: WorkerPoolResource, workers: readonly WorkerResource[]): PoolMember[] | undefined {
  const mine = workers
    .filter(({ metadata }) => metadata.owner?.uid === pool.metadata.uid && metadata.deletionTimestamp === undefined)
    .toSorted((a, b) => ordinal(a) - ordinal(b));
  const members = mine.map((worker) => memberOf(pool, worker));
  const isAsMade = mine.every((worker, index) => ordinal(worker) === index) && members.every(isPlain);
  return isAsMade && mine.length <= pool.spec.replicas ? undefined : members;
}

function ordinal({ metadata }: WorkerResource): number {
  return Number(metadata.name.slice(metadata.name.lastIndexOf('-') + 1));
}

function isPlain({ spec, labels }: PoolMember): boolean {
  return spec === undefined && labels === undefined;
}

/** By the template's words where they are the same, so that the file stays short and says what differs. */
function memberOf({ spec: { template } }: WorkerPoolResource, { metadata, spec }: WorkerResource): PoolMember {
  const { [POOL_LABEL]: _, ...labels } = metadata.labels;
  return {
    name: metadata.name,
    ...(!isDeepStrictEqual(spec, { ...template.spec, paused: false }) && { spec }),
    ...(!isDeepStrictEqual(labels, template.metadata.labels) && { labels }),
  };
}

/** What a backup has of the Workers of a pool, as manifests; none if the pool is to make them. Throws with what is wrong. */
export function memberManifests(pool: Manifest & { kind: 'WorkerPool' }, status: unknown): Manifest[] {
  const parsed = backupStatusSchema.safeParse(status);
  if (!parsed.success) {
    // What `get -o yaml` prints has a status without them.
    if (typeof status !== 'object' || status === null || !('workers' in status)) return [];
    const [issue] = parsed.error.issues;
    throw new Error(`status.${issue?.path.join('.') ?? 'workers'}: ${issue?.message ?? 'cannot be used'}`);
  }
  const { template } = pool.spec;
  return parsed.data.workers.map(({ name, spec, labels }) => ({
    apiVersion: RESOURCE_API_VERSION,
    kind: 'Worker',
    metadata: { name, labels: labels ?? template.metadata.labels },
    spec: spec ?? { ...template.spec, paused: false },
  }));
}
