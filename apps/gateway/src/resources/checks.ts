/** What a manifest must fulfil beyond its schema: what only the other resources, or a calendar, can tell. Pure. */
import { isDeepStrictEqual } from 'node:util';
import {
  ClientError,
  type Issue,
  type Manifest,
  type Resource,
  targetOf,
  type WorkerPoolResource,
  type WorkerRecord,
  type WorkerResource,
} from '@carrierarr/protocol';
import { checkSchedule, hasMachine, ordinalOf } from '@carrierarr/reconcile';
import { shown } from '../problem.js';
import { changedPaths } from './changed-paths.js';

/** The machines that are known and that this is true of. */
export type MachinesWhere = (isWanted: (machine: WorkerRecord) => boolean) => readonly WorkerRecord[];

const MACHINES_NAMED_MAX = 3;

/** Problems of a manifest by itself. */
export function issuesOf(manifest: Manifest): Issue[] {
  const isPool = manifest.kind === 'WorkerPool';
  const { schedule } = isPool ? manifest.spec.template.spec : manifest.spec;
  const problem = schedule && checkSchedule(schedule);
  if (problem === undefined) return [];
  return [{ path: isPool ? 'spec.template.spec.schedule' : 'spec.schedule', message: problem }];
}

/**
 * Problems of changing what is there: of a pool's Worker the pool decides all but `paused`; and a Worker stays with its
 * target, and with its machine, which nobody would look after any more.
 */
export function issuesOfChange(before: Resource, manifest: Manifest, machines: MachinesWhere): Issue[] {
  const { owner } = before.metadata;
  if (owner === undefined)
    return [...issuesOfTarget(before, manifest), ...issuesOfSelector(before, manifest, machines)];
  return changedPaths(before, manifest)
    .filter(({ path }) => path !== 'spec.paused')
    .map(({ path, to }) => ({
      path,
      ...(to !== undefined && { value: shown(to) }),
      message: `belongs to the pool ${shown(owner.name)}, which would undo the change: change the pool's template (only \`spec.paused\` may be changed here)`,
    }));
}

/** Problems of a Worker that is to be one of a pool's. */
export function issuesOfMember({ metadata, spec }: Manifest & { kind: 'Worker' }, pool: WorkerPoolResource): Issue[] {
  const issues: Issue[] = [];
  const { name } = pool.metadata;
  if (ordinalOf(name, metadata.name) === undefined) {
    issues.push({
      path: 'metadata.name',
      value: shown(metadata.name),
      message: `must be ${name}-0, ${name}-1 and so on, as the Workers of the pool ${shown(name)} are named`,
    });
  }
  for (const field of ['target', 'selector'] as const) {
    if (spec[field] === undefined) continue;
    issues.push({ path: `spec.${field}`, message: 'is not for the Workers of a pool: their target is their name' });
  }
  return issues;
}

function issuesOfTarget(before: Resource, manifest: Manifest): Issue[] {
  if (before.kind !== 'Worker' || manifest.kind !== 'Worker') return [];
  const [from, to] = [targetOf(before), targetOf(manifest)];
  if (from === to) return [];
  return [
    {
      path: 'spec.target',
      value: shown(to),
      message:
        `cannot be changed, as the machine of ${shown(from)} would run on with nobody to look after it: ` +
        'delete the Worker (with `--orphan` its machine is left alone) and apply it anew',
    },
  ];
}

/** A selector may be put right, as long as no machine is lost by that. */
function issuesOfSelector(before: Resource, manifest: Manifest, machines: MachinesWhere): Issue[] {
  if (before.kind !== 'Worker' || manifest.kind !== 'Worker') return [];
  const [from, to] = [before.spec.selector, manifest.spec.selector];
  // Another target has been refused, and a machine may have its tags for many reasons.
  if (isDeepStrictEqual(from, to) || targetOf(before) !== targetOf(manifest)) return [];
  const lost = machines((machine) => hasMachine(before, machine) && !hasMachine(manifest, machine));
  if (lost.length === 0) return [];
  const names = lost.slice(0, MACHINES_NAMED_MAX).map(({ id }) => shown(id));
  const more = lost.length > names.length ? ` and ${lost.length - names.length} more` : '';
  return [
    {
      path: 'spec.selector',
      value: shown(to),
      message:
        `cannot be changed so, as ${names.join(', ')}${more} would run on with nobody to look after it: ` +
        'give the machine the new tags first, or delete the Worker (with `--orphan` its machine is left alone) and apply it anew',
    },
  ];
}

/** Two Workers with one target would work against each other. Throws ClientError `conflict`. */
export function checkTarget(manifest: Manifest, workers: readonly WorkerResource[]): void {
  if (manifest.kind !== 'Worker') return;
  const { name } = manifest.metadata;
  const target = targetOf(manifest);
  const other = workers.find((worker) => worker.metadata.name !== name && targetOf(worker) === target);
  if (other !== undefined) throw targetTaken(target, other.metadata.name);
}

/** The error for a target that is another Worker's. */
export function targetTaken(target: string, by: string): ClientError {
  return new ClientError(
    'conflict',
    `The target ${shown(target)} is that of the Worker ${shown(by)} already. Give this one another \`spec.target\`, or delete the other first.`,
  );
}
