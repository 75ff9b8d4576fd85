/** The text of `carrierarr describe`. Pure. */
import type {
  Condition,
  Execution,
  GivenCommand,
  PlanBody,
  Resource,
  ResourceEvent,
  WorkerResource,
} from '@carrierarr/protocol';
import { facts, type Facts, section } from '../terminal/facts.js';
import { age, table } from '../terminal/table.js';
import { visible } from '../terminal/visible.js';
import { yamlText } from '../terminal/yaml.js';
import { executionsTable } from './executions-table.js';
import { planText } from './plan-text.js';
import { conditionOf, hindrance, labelsText, resourceColumns } from './resource-rows.js';

const WORKERS_SHOWN = 20;

/** What is known of a resource beside itself; undefined where the gateway could not say. */
export interface Surroundings {
  readonly events: readonly ResourceEvent[] | undefined;
  readonly plan: PlanBody | undefined;
  /** The newest of a worker's target. */
  readonly executions: readonly Execution[] | undefined;
  /** Of a pool. */
  readonly workers: readonly WorkerResource[] | undefined;
}

/** Ends with a newline. */
export function describeText(resource: Resource, surroundings: Surroundings, nowMs: number): string {
  const { events, plan, executions, workers } = surroundings;
  const { status } = resource;
  return [
    facts(headFacts(resource, nowMs)),
    section('Spec', yamlText(resource.spec)),
    section('Status', statusText(resource, nowMs)),
    section('Conditions', conditionsText(status?.conditions ?? [], nowMs)),
    ...(workers === undefined ? [] : [section('Workers', workersText(workers, nowMs))]),
    ...(executions === undefined
      ? []
      : [section('Last executions', executions.length === 0 ? 'None.\n' : executionsTable(executions, nowMs))]),
    ...(events === undefined ? [] : [section('Events', eventsText(events, nowMs))]),
    section('Why', `${visible(whyText(resource))}\n`),
    ...(plan === undefined ? [] : [section('Next', `${visible(planText(plan))}\n`)]),
  ].join('');
}

function ago(time: string, nowMs: number): string {
  return `${age(Date.parse(time), nowMs)} ago`;
}

function timeText(time: string | undefined, nowMs: number): string | undefined {
  return time === undefined ? undefined : `${time} (${ago(time, nowMs)})`;
}

function headFacts({ kind, metadata }: Resource, nowMs: number): Facts {
  const { owner, labels, deletionTimestamp, finalizers } = metadata;
  return [
    ['Name', metadata.name],
    ['Kind', kind],
    ['Labels', labelsText(labels) || 'none'],
    ['Pool', owner?.name],
    ['Generation', String(metadata.generation)],
    ['Created', timeText(metadata.creationTimestamp, nowMs)],
    ['Deleted', timeText(deletionTimestamp, nowMs)],
    ['Waits for', deletionTimestamp === undefined ? undefined : finalizers.join(', ') || 'nothing'],
  ];
}

function statusText(resource: Resource, nowMs: number): string {
  const { status } = resource;
  if (status === undefined) return 'None yet: no monitor has looked at it.\n';
  const seen =
    status.observedGeneration < resource.metadata.generation
      ? `of generation ${status.observedGeneration}: the newest spec has not been looked at yet`
      : `of generation ${status.observedGeneration}`;
  if (resource.kind === 'WorkerPool') {
    const { replicas, ready, updated, unavailable } = resource.status ?? {};
    return facts([
      ['Status', seen],
      ['Replicas', `${replicas} of ${resource.spec.replicas}`],
      ['Ready', String(ready)],
      ['Updated', String(updated)],
      ['Unavailable', String(unavailable)],
    ]);
  }
  return facts([['Status', seen], ...workerFacts(resource, nowMs)]);
}

function workerFacts({ status }: WorkerResource, nowMs: number): Facts {
  if (status === undefined) return [];
  const { state, stateObservedAt, failures, backoffUntil, lastCommand } = status;
  return [
    ['Phase', status.phase],
    [
      'State',
      state === undefined
        ? undefined
        : `${state}${stateObservedAt === undefined ? '' : `, seen ${ago(stateObservedAt, nowMs)}`}`,
    ],
    ['Target', status.target],
    ['Machine', status.workerId],
    ['Commands', `${status.attempts} given${failures > 0 ? `, the last ${failures} failed` : ''}`],
    ['Waits until', backoffUntil === undefined || Date.parse(backoffUntil) < nowMs ? undefined : backoffUntil],
    ['Last command', lastCommand === undefined ? undefined : commandText(lastCommand, nowMs)],
  ];
}

function commandText({ verb, reason, requestedAt, execution, outcome, exitCode }: GivenCommand, nowMs: number): string {
  const end =
    outcome === undefined
      ? ''
      : `, ${outcome}${exitCode === undefined || exitCode < 0 ? '' : ` (exit code ${exitCode})`}`;
  return `${verb}, ${ago(requestedAt, nowMs)}${end}: ${reason}${execution === undefined ? '' : ` [${execution}]`}`;
}

function conditionsText(conditions: readonly Condition[], nowMs: number): string {
  if (conditions.length === 0) return 'None.\n';
  return table(
    ['TYPE', 'STATUS', 'SINCE', 'REASON', 'MESSAGE'],
    conditions.map(({ type, status, reason, message, lastTransitionTime }) => [
      ...[type, status, ago(lastTransitionTime, nowMs), reason, message],
    ]),
  );
}

function eventsText(events: readonly ResourceEvent[], nowMs: number): string {
  if (events.length === 0) return 'None in the last days.\n';
  return table(
    ['TYPE', 'REASON', 'LAST', 'COUNT', 'MESSAGE'],
    events.map(({ type, reason, message, count, firstTime, lastTime }) => {
      const times = count > 1 ? `${count} in ${age(Date.parse(firstTime), nowMs)}` : String(count);
      return [type, reason, ago(lastTime, nowMs), times, message];
    }),
  );
}

/** Those that are not ready come first. */
function workersText(workers: readonly WorkerResource[], nowMs: number): string {
  if (workers.length === 0) return 'None.\n';
  const isReady = ({ status }: WorkerResource) => conditionOf(status?.conditions, 'Ready')?.status === 'True';
  const sorted = [...workers.filter((worker) => !isReady(worker)), ...workers.filter(isReady)];
  const { header, row } = resourceColumns('Worker', false);
  const shown = table(
    header,
    sorted.slice(0, WORKERS_SHOWN).map((worker) => row(worker, nowMs)),
  );
  const more = workers.length - WORKERS_SHOWN;
  return more > 0 ? `${shown}and ${more} more\n` : shown;
}

function whyText({ spec, status }: Resource): string {
  if (spec.paused) return 'It is paused: it is looked at, and nothing is done.';
  if (status === undefined) return 'No monitor has looked at it yet.';
  const condition = hindrance(status.conditions);
  return condition === undefined ? 'It is as desired.' : `${condition.reason}: ${condition.message}`;
}
