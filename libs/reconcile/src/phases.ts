/**
 * The states of all sources in one small vocabulary. A plan knows phases only; a state it has never heard of is
 * `unknown`, and on `unknown` nobody acts.
 */
import type { WorkerRecord } from '@carrierarr/protocol';

export type ObservedPhase = 'absent' | 'pending' | 'running' | 'stopping' | 'stopped' | 'terminating' | 'unknown';

/** https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html */
const EC2: Readonly<Record<string, ObservedPhase>> = {
  pending: 'pending',
  running: 'running',
  stopping: 'stopping',
  stopped: 'stopped',
  'shutting-down': 'terminating',
  terminated: 'absent',
};

/**
 * https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html
 * A task that was stopped cannot be started again: on its way there it is terminating, there it is absent.
 */
const ECS: Readonly<Record<string, ObservedPhase>> = {
  PROVISIONING: 'pending',
  PENDING: 'pending',
  ACTIVATING: 'pending',
  RUNNING: 'running',
  DEACTIVATING: 'terminating',
  STOPPING: 'terminating',
  DEPROVISIONING: 'terminating',
  STOPPED: 'absent',
  DELETED: 'absent',
};

/** What the `status` verb of a control script may say. */
const SCRIPT: Readonly<Record<string, ObservedPhase>> = {
  absent: 'absent',
  terminated: 'absent',
  pending: 'pending',
  starting: 'pending',
  running: 'running',
  stopping: 'stopping',
  stopped: 'stopped',
  terminating: 'terminating',
  'shutting-down': 'terminating',
};

/** Name of the source that asks control scripts. */
export const SCRIPT_SOURCE = 'script';

/** Kind of a source: what stands before the first slash, as `ec2` in `ec2/eu-central-1`. */
export function sourceKindOf(source: string): string {
  return source.split('/', 1)[0] ?? source;
}

/** Whether a source is a cloud, whose machines a script provisions and whose answers may lag behind the truth. */
export function isCloudSource(source: string): boolean {
  const kind = sourceKindOf(source);
  return kind === 'ec2' || kind === 'ecs';
}

/** The phase of a state in the words of its source; anything unheard of is `unknown`. */
export function phaseOfState(source: string, state: string): ObservedPhase {
  const kind = sourceKindOf(source);
  const table = kind === 'ec2' ? EC2 : kind === 'ecs' ? ECS : SCRIPT;
  const word = kind === 'ec2' || kind === 'ecs' ? state : state.toLowerCase();
  return Object.hasOwn(table, word) ? (table[word] ?? 'unknown') : 'unknown';
}

/** The phase of a record; a tombstone is absent, whatever its last state was. */
export function phaseOfRecord(record: Pick<WorkerRecord, 'source' | 'state' | 'gone_at'>): ObservedPhase {
  return record.gone_at === undefined ? phaseOfState(record.source, record.state) : 'absent';
}
