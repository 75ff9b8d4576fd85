/**
 * How a changed template reaches a pool's Workers: by changing their specs in place; where the arguments that its
 * machine was made with differ, by replacing the Worker (deleted with its machine, then made anew under its name), a
 * few at a time and never so many that too few stay ready.
 */
import type { WorkerPoolSpec, WorkerResource, WorkerSpec } from '@carrierarr/protocol';
import { isTrue } from './conditions.js';
import { canonicalJson } from './template-hash.js';

export interface Rollout {
  update: WorkerResource[];
  replace: WorkerResource[];
}

export function rolloutOf(o: {
  spec: WorkerPoolSpec;
  templateHash: string;
  /** Those that are to stay, by ordinal. */
  staying: readonly WorkerResource[];
  /** Workers that are being deleted, or that are missing: their places are not served. */
  vacant: number;
}): Rollout {
  const { spec, templateHash, staying, vacant } = o;
  const outdated = staying.filter((worker) => worker.metadata.templateHash !== templateHash);
  const remade = outdated.filter((worker) => hasMachine(worker) && madeOtherwise(worker, spec.template.spec));
  const update = outdated.filter((worker) => !remade.includes(worker));
  if (remade.length === 0) return { update, replace: [] };

  // Those from the new template count until they are as wanted: a template that does not work stops here.
  const underway = staying.filter((worker) => worker.metadata.templateHash === templateHash && !isSettled(worker));
  let free = spec.maxUnavailable - vacant - underway.length;
  let spare = staying.filter(isReady).length - readyFloorOf(spec);
  const replace: WorkerResource[] = [];
  for (const worker of [...remade.filter((each) => !isReady(each)), ...remade.filter(isReady)]) {
    if (free <= 0) break;
    if (isReady(worker)) {
      if (spare <= 0) break;
      spare -= 1;
    }
    free -= 1;
    replace.push(worker);
  }
  return { update, replace };
}

/** How many are to stay ready whatever is done on purpose; none of a pool that is not to run at all. */
export function readyFloorOf({ minReady, replicas, template }: WorkerPoolSpec): number {
  return template.spec.desired === 'running' ? Math.min(minReady, replicas) : 0;
}

/** The spec of a Worker from a template; whether it is paused is its own. */
export function specFrom(template: WorkerPoolSpec['template'], before?: WorkerResource): WorkerSpec {
  return { ...template.spec, paused: before?.spec.paused ?? false };
}

/** As wanted by its present spec, running or not. */
export function isSettled({ metadata, status }: WorkerResource): boolean {
  return status?.observedGeneration === metadata.generation && isTrue(status.conditions, 'Synced');
}

export function isReady({ status }: WorkerResource): boolean {
  return status !== undefined && isTrue(status.conditions, 'Ready');
}

/** It has a machine, or may have one soon. */
function hasMachine({ status }: WorkerResource): boolean {
  if (status === undefined) return false;
  const { phase, lastCommand, attempts } = status;
  const gone = phase === 'Absent' || phase === 'Pending';
  return !gone || (attempts > 0 && lastCommand?.outcome === undefined);
}

function madeOtherwise(worker: WorkerResource, template: WorkerPoolSpec['template']['spec']): boolean {
  return canonicalJson(worker.spec.args.provision) !== canonicalJson(template.args.provision);
}
