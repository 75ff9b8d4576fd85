/**
 * Names of a pool's Workers that are somebody else's: a Worker of that name which is not the pool's, or one that has the
 * name for its target. The pool stays short of them and says so, rather than going on to higher ordinals: names alone keep
 * a leader that knows too little from making more Workers than `replicas`.
 */
import { POOL_LABEL, type WorkerResource } from '@carrierarr/protocol';
import type { PoolView } from './pool-view.js';

/** Look again this soon whether the names are free: whoever frees one does not tell the pool. */
export const TAKEN_RECHECK_MS = 5_000;
/** Names that the text tells one by one. */
const NAMED_MAX = 3;

/** Which of the names can be had, and why the others cannot; undefined if all can. */
export function sortedOut(view: PoolView, names: readonly string[]): { free: string[]; taken: string | undefined } {
  const free: string[] = [];
  const texts: string[] = [];
  for (const name of names) {
    const other = view.otherAt(name);
    if (other === undefined) free.push(name);
    else texts.push(takenText(name, other));
  }
  if (texts.length === 0) return { free, taken: undefined };
  const more = texts.length > NAMED_MAX ? `; and ${texts.length - NAMED_MAX} more` : '';
  const advice = 'Delete or rename those, or the pool stays short of its workers.';
  return { free, taken: `${texts.slice(0, NAMED_MAX).join('; ')}${more}. ${advice}` };
}

function takenText(name: string, { metadata }: WorkerResource): string {
  const { owner, labels } = metadata;
  const whose = owner === undefined ? 'that no pool owns' : `of the pool ${owner.name} (${owner.uid})`;
  const label =
    owner === undefined && labels[POOL_LABEL] !== undefined ? `, though it has the label ${POOL_LABEL}` : '';
  const going = metadata.deletionTimestamp === undefined ? '' : ', and that is being deleted';
  return metadata.name === name
    ? `${name} is a Worker ${whose}${label}${going}`
    : `${name} is the target of the Worker ${metadata.name} ${whose}${going}`;
}
