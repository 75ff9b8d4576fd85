/** Names of what is reconciled: `Worker/gpu-1`, `WorkerPool/gpu`. */
import type { ResourceKind } from '@carrierarr/protocol';

export type ResourceKey = `${ResourceKind}/${string}`;

export function keyOf(kind: ResourceKind, name: string): ResourceKey {
  return `${kind}/${name}`;
}

/** Kind and name of a key that {@link keyOf} made; no kind has a slash in it. */
export function partsOf(key: string): { kind: ResourceKind; name: string } {
  const slash = key.indexOf('/');
  return { kind: key.slice(0, slash) as ResourceKind, name: key.slice(slash + 1) };
}
