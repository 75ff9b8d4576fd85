/** Which Workers of a pool are too many, and the names of those that are missing. */
import type { WorkerResource } from '@carrierarr/protocol';
import { isReady, readyFloorOf } from './pool-rollout.js';
import type { PoolView } from './pool-view.js';

export function nameOf(pool: string, ordinal: number): string {
  return `${pool}-${ordinal}`;
}

/** The ordinal in a Worker's name; undefined for a name that its pool would not give. */
export function ordinalOf(pool: string, name: string): number | undefined {
  const digits = name.startsWith(`${pool}-`) ? name.slice(pool.length + 1) : '';
  return /^(0|[1-9]\d{0,8})$/.test(digits) ? Number(digits) : undefined;
}

/** Names of the lowest free ordinals. */
export function missingNames(pool: string, taken: ReadonlySet<string>, count: number): string[] {
  const names: string[] = [];
  for (let ordinal = 0; names.length < count; ordinal += 1) {
    const name = nameOf(pool, ordinal);
    if (!taken.has(name)) names.push(name);
  }
  return names;
}

/**
 * The Workers to go, in the pool's order. One that is ready stays when fewer than `minReady` (or than the pool is to
 * have) would be ready without it, and one that is not goes in its place.
 */
export function surplusOf(view: PoolView, active: readonly WorkerResource[]): WorkerResource[] {
  const { spec } = view.pool;
  const keep = readyFloorOf(spec);
  let ready = active.filter(isReady).length;
  const going: WorkerResource[] = [];
  for (const worker of inOrderOfGoing(view, active)) {
    if (active.length - going.length <= spec.replicas) break;
    if (isReady(worker)) {
      if (ready <= keep) continue;
      ready -= 1;
    }
    going.push(worker);
  }
  return going;
}

function inOrderOfGoing(view: PoolView, active: readonly WorkerResource[]): WorkerResource[] {
  const { scaleIn } = view.pool.spec;
  const weight = (worker: WorkerResource): number => {
    switch (scaleIn) {
      case 'highest':
        return 0;
      case 'idle-longest':
        return view.idleSeconds(worker) ?? -1;
      // What has no machine yet is the newest of all.
      case 'newest':
        return view.launchedAtMs(worker) ?? Infinity;
      case 'oldest':
        return -(view.launchedAtMs(worker) ?? Infinity);
    }
  };
  const { name } = view.pool.metadata;
  const ordinal = (worker: WorkerResource) => ordinalOf(name, worker.metadata.name) ?? Infinity;
  return active
    .map((worker) => ({ worker, weight: weight(worker), ordinal: ordinal(worker) }))
    .toSorted((a, b) => descending(a.weight, b.weight) || descending(a.ordinal, b.ordinal))
    .map(({ worker }) => worker);
}

/** For sorting; unlike a difference it can compare infinities. */
function descending(a: number, b: number): number {
  return a === b ? 0 : a > b ? -1 : 1;
}
