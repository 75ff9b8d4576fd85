/** Workers and pools as rows of a table. Pure. */
import type { Condition, Resource, WorkerPoolResource, WorkerResource } from '@carrierarr/protocol';
import { targetOf } from '@carrierarr/protocol';
import { age } from '../terminal/table.js';

export interface Columns<T> {
  readonly header: readonly string[];
  readonly row: (item: T, nowMs: number) => readonly string[];
}

/** The columns for resources of a kind; `wide` has some more. */
export function resourceColumns(kind: Resource['kind'], isWide: boolean): Columns<Resource> {
  const [base, more] = kind === 'Worker' ? [WORKER, WORKER_WIDE] : [POOL, POOL_WIDE];
  return {
    header: isWide ? [...base.header, ...more.header] : base.header,
    row: (resource, nowMs) => {
      // A list is of one kind.
      const columns = [base, ...(isWide ? [more] : [])] as readonly Columns<Resource>[];
      return columns.flatMap((each) => each.row(resource, nowMs));
    },
  };
}

const WORKER: Columns<WorkerResource> = {
  header: ['NAME', 'DESIRED', 'PHASE', 'STATE', 'READY', 'AGE'],
  row: ({ metadata, spec, status }, nowMs) => [
    metadata.name,
    `${metadata.deletionTimestamp === undefined ? spec.desired : 'deleted'}${spec.paused ? ' (paused)' : ''}`,
    status?.phase ?? '',
    status?.state ?? '',
    yesNo(conditionOf(status?.conditions, 'Ready')),
    age(Date.parse(metadata.creationTimestamp), nowMs),
  ],
};

const WORKER_WIDE: Columns<WorkerResource> = {
  header: ['TARGET', 'ID', 'REASON', 'LABELS'],
  row: (worker) => [
    worker.status?.target ?? targetOf(worker),
    worker.status?.workerId ?? '',
    reasonOf(worker.status?.conditions),
    labelsText(worker.metadata.labels),
  ],
};

const POOL: Columns<WorkerPoolResource> = {
  header: ['NAME', 'DESIRED', 'REPLICAS', 'READY', 'UPDATED', 'UNAVAILABLE', 'AGE'],
  row: ({ metadata, spec, status }, nowMs) => [
    metadata.name,
    `${metadata.deletionTimestamp === undefined ? spec.replicas : 'deleted'}${spec.paused ? ' (paused)' : ''}`,
    countText(status?.replicas),
    countText(status?.ready),
    countText(status?.updated),
    countText(status?.unavailable),
    age(Date.parse(metadata.creationTimestamp), nowMs),
  ],
};

const POOL_WIDE: Columns<WorkerPoolResource> = {
  header: ['SCALE-IN', 'REASON', 'LABELS'],
  row: ({ metadata, spec, status }) => [spec.scaleIn, reasonOf(status?.conditions), labelsText(metadata.labels)],
};

export function labelsText(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
}

export function conditionOf(conditions: readonly Condition[] = [], type: string): Condition | undefined {
  return conditions.find((condition) => condition.type === type);
}

/** The one condition that explains best why a resource is not as desired; undefined if it is. */
export function hindrance(conditions: readonly Condition[] = []): Condition | undefined {
  const is = (type: string, status: Condition['status']) =>
    conditions.find((condition) => condition.type === type && condition.status === status);
  return (
    is('Halted', 'True') ??
    is('Observed', 'False') ??
    is('Available', 'False') ??
    is('Synced', 'False') ??
    // One that is stopped as desired is not ready either.
    (is('Synced', 'True') === undefined ? (is('Ready', 'False') ?? is('Ready', 'Unknown')) : undefined)
  );
}

function reasonOf(conditions: readonly Condition[] | undefined): string {
  return hindrance(conditions)?.reason ?? '';
}

function yesNo(condition: Condition | undefined): string {
  return condition === undefined ? '' : { True: 'yes', False: 'no', Unknown: '?' }[condition.status];
}

function countText(count: number | undefined): string {
  return count === undefined ? '' : String(count);
}
