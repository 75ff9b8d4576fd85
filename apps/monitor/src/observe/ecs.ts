/**
 * Tasks of one ECS cluster, Fargate's above all.
 *
 * ListTasks says only what should run unless asked for STOPPED as well, and gives nothing but ARNs; DescribeTasks takes
 * 100 of those. A task that ends between the two calls is reported as MISSING and really is gone; any other failure
 * leaves a hole, so the whole poll fails rather than show a task as absent that nobody could look at.
 */
import {
  type DesiredStatus,
  DescribeTasksCommand,
  type ECSClient,
  type Failure,
  ListTasksCommand,
  type Task,
} from '@aws-sdk/client-ecs';
import type { Interruption, WorkerRecord } from '@carrierarr/protocol';
import { type AwsCallContext, budgeted, explainAwsError, type Tally } from './aws-call.js';
import { mapTarget } from './map-target.js';
import { checkWorkerCount, type PollResult, type Source, SourceError } from './source.js';

/** Most ARNs of one call of either API. */
const PAGE_SIZE = 100;
/** ECS' CPU units of one vCPU. */
const CPU_UNITS = 1024;
/** Failures that a message names one by one. */
const FAILURES_NAMED_MAX = 3;

export interface EcsSourceOptions extends AwsCallContext {
  readonly client: ECSClient;
  readonly region: string;
  /** Name or ARN. */
  readonly cluster: string;
}

export class EcsSource implements Source {
  readonly name: string;
  readonly hasTombstones = true;
  readonly #options: EcsSourceOptions;

  constructor(options: EcsSourceOptions) {
    this.#options = options;
    this.name = `ecs/${options.region}/${clusterName(options.cluster)}`;
  }

  async poll(signal: AbortSignal): Promise<PollResult> {
    const tally: Tally = { service: 'ecs', region: this.#options.region, signal, calls: 0 };
    // A task that stops between the two lists is on both.
    const arns = new Set<string>();
    for (const desiredStatus of ['RUNNING', 'STOPPED'] as const) {
      for await (const arn of this.#list(desiredStatus, tally)) arns.add(arn);
      checkWorkerCount(arns.size, this.name, tally.calls, 'Give the workers a cluster of their own.');
    }
    const records = new Map<string, WorkerRecord>();
    const all = [...arns];
    for (let from = 0; from < all.length; from += PAGE_SIZE) {
      for (const task of await this.#describe(all.slice(from, from + PAGE_SIZE), tally)) {
        const record = taskRecord(task, this.name);
        if (record) records.set(record.id, record);
      }
    }
    return { kind: 'complete', records: [...records.values()], calls: tally.calls };
  }

  async *#list(desiredStatus: DesiredStatus, tally: Tally): AsyncGenerator<string> {
    let token: string | undefined;
    do {
      const command = new ListTasksCommand({
        cluster: this.#options.cluster,
        desiredStatus,
        maxResults: PAGE_SIZE,
        ...(token === undefined ? {} : { nextToken: token }),
      });
      const page = await this.#send('ListTasks', tally, () =>
        this.#options.client.send(budgeted(command, 'ListTasks', tally, this.#options), { abortSignal: tally.signal }),
      );
      yield* page.taskArns ?? [];
      token = page.nextToken || undefined;
    } while (token !== undefined);
  }

  async #describe(arns: string[], tally: Tally): Promise<Task[]> {
    const command = new DescribeTasksCommand({ cluster: this.#options.cluster, tasks: arns, include: ['TAGS'] });
    const { tasks = [], failures = [] } = await this.#send('DescribeTasks', tally, () =>
      this.#options.client.send(budgeted(command, 'DescribeTasks', tally, this.#options), {
        abortSignal: tally.signal,
      }),
    );
    checkFailures(failures, arns, this.name, tally);
    // An answer may also leave a task out without a word.
    const answered = new Set([...tasks.map(({ taskArn }) => taskArn), ...failures.map(({ arn }) => arn)].map(taskId));
    const silent = arns.filter((arn) => !answered.has(taskId(arn)));
    if (silent.length > 0) {
      throw new SourceError(
        `${this.name}: ecs:DescribeTasks answered for ${arns.length - silent.length} of ${arns.length} tasks; nothing ` +
          `was said of ${silent[0]}. What is known of the workers stays as it is; it is tried again.`,
        { calls: tally.calls },
      );
    }
    return tasks;
  }

  async #send<T>(operation: string, tally: Tally, send: () => Promise<T>): Promise<T> {
    try {
      return await send();
    } catch (error) {
      throw explainAwsError(error, operation, tally);
    }
  }
}

/** Throws when a task could not be described for another reason than that it is gone. */
function checkFailures(failures: readonly Failure[], arns: readonly string[], source: string, tally: Tally): void {
  const holes = failures.filter(({ reason }) => reason !== 'MISSING');
  if (holes.length === 0) return;
  const named = holes.slice(0, FAILURES_NAMED_MAX).map(({ arn = 'a task', reason = 'no reason', detail }) => {
    return `${arn}: ${[reason, detail].filter(Boolean).join(', ')}`;
  });
  throw new SourceError(
    `${source}: ecs:DescribeTasks failed for ${holes.length} of ${arns.length} tasks (${named.join('; ')}). ` +
      'What is known of the workers stays as it is; it is tried again. ACCESSDENIED wants the action allowed for these tasks.',
    { calls: tally.calls },
  );
}

/** `my-cluster` of a name or of `arn:aws:ecs:REGION:ACCOUNT:cluster/my-cluster`. */
export function clusterName(nameOrArn: string): string {
  return nameOrArn.startsWith('arn:') ? (nameOrArn.split('/').at(-1) ?? nameOrArn) : nameOrArn;
}

/** The region of a cluster's ARN; undefined for a name. */
export function clusterRegion(nameOrArn: string): string | undefined {
  return nameOrArn.startsWith('arn:') ? nameOrArn.split(':')[3] || undefined : undefined;
}

/** The id, whichever of ECS' two forms the ARN has: `…:task/ID` or `…:task/CLUSTER/ID`. */
function taskId(arn: string | undefined): string | undefined {
  return arn?.split('/').at(-1);
}

/** What DescribeTasks says of a task, as a record; undefined for a task without ARN. Empty fields are left out. */
export function taskRecord(task: Task, source: string): WorkerRecord | undefined {
  const id = task.taskArn;
  if (id === undefined) return undefined;
  const tags = Object.fromEntries((task.tags ?? []).map(({ key = '', value = '' }) => [key, value]));
  const family = familyOf(task.taskDefinitionArn);
  const privateIp = privateIpOf(task);
  const type = task.cpu && task.memory ? `${vcpus(task.cpu)} vCPU / ${task.memory} MB` : task.launchType;
  const health = task.healthStatus;
  const reason = stopReason(task);
  const interruption = interruptionOf(task);
  return {
    id,
    ...(family ? { name: family } : {}),
    provider: 'fargate',
    state: task.lastStatus ?? 'UNKNOWN',
    ...(privateIp ? { private_ip: privateIp } : {}),
    ...(type ? { instance_type: type } : {}),
    ...(task.startedAt ? { launch_time: task.startedAt.toISOString() } : {}),
    ...(Object.keys(tags).length === 0 ? {} : { tags }),
    ...(health ? { health_check: health } : {}),
    ...mapTarget(id, tags),
    source,
    ...(reason ? { reason } : {}),
    lifecycle: task.capacityProviderName === 'FARGATE_SPOT' ? 'spot' : 'on-demand',
    ...(interruption === undefined ? {} : { interruption }),
  };
}

/** `gpu-worker` of `arn:…:task-definition/gpu-worker:7`. */
function familyOf(taskDefinitionArn: string | undefined): string | undefined {
  return taskDefinitionArn?.split('/').at(-1)?.replace(/:\d+$/, '');
}

function vcpus(cpuUnits: string): string {
  const units = Number(cpuUnits);
  return Number.isFinite(units) ? String(units / CPU_UNITS) : cpuUnits;
}

function privateIpOf({ attachments = [], containers = [] }: Task): string | undefined {
  const eni = attachments.find(({ type }) => type === 'ElasticNetworkInterface');
  const ofEni = eni?.details?.find(({ name }) => name === 'privateIPv4Address')?.value;
  if (ofEni) return ofEni;
  return containers.flatMap(({ networkInterfaces = [] }) => networkInterfaces)[0]?.privateIpv4Address;
}

/** Why it stops or stopped: ECS' code and words, and how its containers ended. */
function stopReason({ stopCode, stoppedReason, containers = [] }: Task): string | undefined {
  const words = [stopCode, stoppedReason].filter(Boolean).join(': ');
  if (words === '') return undefined;
  const ends = containers.flatMap(({ name = 'container', exitCode, reason }) => {
    const facts = [exitCode === undefined ? '' : `exit code ${exitCode}`, reason ?? ''].filter(Boolean);
    return facts.length === 0 ? [] : [`${name}: ${facts.join(', ')}`];
  });
  return ends.length === 0 ? words : `${words} (${ends.join('; ')})`;
}

/** Fargate Spot says two minutes ahead that it takes a task back: it still runs, but is meant to be stopped. */
function interruptionOf({ stopCode, stoppedReason, lastStatus }: Task): Interruption | undefined {
  if (stopCode !== 'SpotInterruption' || lastStatus === 'STOPPED') return undefined;
  return { kind: 'spot', detail: stoppedReason ?? 'Fargate Spot takes the task back.' };
}
