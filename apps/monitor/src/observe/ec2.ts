/**
 * EC2 instances of one region that carry given tags.
 *
 * One poll is ⌈N/1000⌉ calls of DescribeInstances. In all states: a stopped instance is a worker too, and a terminated
 * one is listed for about an hour, which tells its end from a hole in the answer. Never by ids: one that EC2 does not
 * know (yet) fails the whole call. Status checks and scheduled events come by another API that cannot filter by tags, so
 * it is asked less often, and its failure costs only what it would have said.
 */
import {
  DescribeInstancesCommand,
  DescribeInstanceStatusCommand,
  type EC2Client,
  type Instance,
  type InstanceStatus,
  type InstanceStatusEvent,
} from '@aws-sdk/client-ec2';
import type { Interruption, WorkerRecord } from '@carrierarr/protocol';
import { type AwsCallContext, budgeted, explainAwsError, type Tally } from './aws-call.js';
import type { InstanceMetrics } from './cloudwatch.js';
import { mapTarget } from './map-target.js';
import { checkWorkerCount, type PollResult, type Source } from './source.js';

/** Most that one call of DescribeInstances or DescribeInstanceStatus returns. */
const PAGE_SIZE = 1_000;
/** States in which nothing more can be announced or measured. */
const ENDED_STATES = new Set(['terminated', 'shutting-down']);

export interface Ec2SourceOptions extends AwsCallContext {
  readonly client: EC2Client;
  readonly region: string;
  /** An instance has to have them all. Values may have `*`, as EC2's filters do. */
  readonly tags: Readonly<Record<string, string>>;
  /** Time between two looks at status checks and scheduled events, ms; 0 for never. */
  readonly statusEveryMs: number;
  /** What was announced for an instance other than by polling. */
  readonly interruptionOf: (instanceId: string) => Interruption | undefined;
  /** What CloudWatch measures of instances that run, and how often it is asked. */
  readonly measured?: { readonly metrics: InstanceMetrics; readonly everyMs: number };
}

/** What DescribeInstanceStatus said of an instance. */
interface Health {
  readonly check?: string;
  readonly event?: Interruption;
}

export class Ec2Source implements Source {
  readonly name: string;
  readonly hasTombstones = true;
  readonly #options: Ec2SourceOptions;
  #health: ReadonlyMap<string, Health> = new Map();
  #statusDueMs = 0;
  #metricsDueMs = 0;

  constructor(options: Ec2SourceOptions) {
    this.#options = options;
    this.name = `ec2/${options.region}`;
  }

  async poll(signal: AbortSignal): Promise<PollResult> {
    const tally: Tally = { service: 'ec2', region: this.#options.region, signal, calls: 0 };
    // By id: while a fleet changes, an instance may be on two pages.
    const instances = new Map<string, Instance>();
    for await (const instance of this.#instances(tally)) {
      if (instance.InstanceId) instances.set(instance.InstanceId, instance);
      checkWorkerCount(instances.size, this.name, tally.calls, 'Narrow --ec2-tags.');
    }
    const warnings = [await this.#refreshHealth(instances, tally), await this.#refreshMetrics(instances, tally)];
    const records = [...instances].map(([id, instance]) => this.#record(id, instance));
    const warning = warnings.filter(Boolean).join(' ');
    return { kind: 'complete', records, calls: tally.calls, ...(warning === '' ? {} : { warning }) };
  }

  async *#instances(tally: Tally): AsyncGenerator<Instance> {
    const filters = Object.entries(this.#options.tags).map(([tag, value]) => ({
      Name: `tag:${tag}`,
      Values: [value],
    }));
    let token: string | undefined;
    do {
      const command = new DescribeInstancesCommand({
        MaxResults: PAGE_SIZE,
        ...(filters.length === 0 ? {} : { Filters: filters }),
        ...(token === undefined ? {} : { NextToken: token }),
      });
      const page = await this.#send('DescribeInstances', tally, () =>
        this.#options.client.send(budgeted(command, 'DescribeInstances', tally, this.#options), {
          abortSignal: tally.signal,
        }),
      );
      for (const reservation of page.Reservations ?? []) yield* reservation.Instances ?? [];
      token = page.NextToken || undefined;
    } while (token !== undefined);
  }

  /** Looks at status checks if it is time. Returns what is wrong when it could not; what was known is then kept. */
  async #refreshHealth(instances: ReadonlyMap<string, unknown>, tally: Tally): Promise<string | undefined> {
    const { statusEveryMs, clock } = this.#options;
    if (statusEveryMs === 0 || instances.size === 0 || clock.monotonicMs() < this.#statusDueMs) return undefined;
    const health = new Map<string, Health>();
    this.#statusDueMs = clock.monotonicMs() + statusEveryMs;
    try {
      for await (const status of this.#statuses(tally)) {
        const id = status.InstanceId;
        if (id !== undefined && instances.has(id)) health.set(id, healthOf(status));
      }
    } catch (error) {
      if (tally.signal.aborted) throw error;
      return `Status checks and scheduled events are not known: ${(error as Error).message}`;
    }
    this.#health = health;
    return undefined;
  }

  /** Asks CloudWatch if it is time. Like above, a failure is told and what was known is kept. */
  async #refreshMetrics(instances: ReadonlyMap<string, Instance>, tally: Tally): Promise<string | undefined> {
    const { measured, clock } = this.#options;
    if (!measured || clock.monotonicMs() < this.#metricsDueMs) return undefined;
    this.#metricsDueMs = clock.monotonicMs() + measured.everyMs;
    const running = [...instances].filter(([, { State }]) => State?.Name === 'running').map(([id]) => id);
    try {
      tally.calls += await measured.metrics.refresh(running, tally.signal);
      return undefined;
    } catch (error) {
      if (tally.signal.aborted) throw error;
      return `Metrics are not fresh: ${(error as Error).message}`;
    }
  }

  async *#statuses(tally: Tally): AsyncGenerator<InstanceStatus> {
    let token: string | undefined;
    do {
      const command = new DescribeInstanceStatusCommand({
        // Without it only running ones are told of; a stopped one can be up for retirement.
        IncludeAllInstances: true,
        MaxResults: PAGE_SIZE,
        ...(token === undefined ? {} : { NextToken: token }),
      });
      const page = await this.#send('DescribeInstanceStatus', tally, () =>
        this.#options.client.send(budgeted(command, 'DescribeInstanceStatus', tally, this.#options), {
          abortSignal: tally.signal,
        }),
      );
      yield* page.InstanceStatuses ?? [];
      token = page.NextToken || undefined;
    } while (token !== undefined);
  }

  async #send<T>(operation: string, tally: Tally, send: () => Promise<T>): Promise<T> {
    try {
      return await send();
    } catch (error) {
      throw explainAwsError(error, operation, tally);
    }
  }

  #record(id: string, instance: Instance): WorkerRecord {
    const { interruptionOf, measured } = this.#options;
    const facts = instanceFacts(id, instance, this.name);
    if (ENDED_STATES.has(facts.state)) return facts;
    const health = this.#health.get(id);
    const interruption = interruptionOf(id) ?? health?.event;
    const metrics = measured?.metrics.of(id);
    return {
      ...facts,
      ...(health?.check === undefined ? {} : { health_check: health.check }),
      ...(interruption === undefined ? {} : { interruption }),
      ...(metrics === undefined ? {} : { metrics }),
    };
  }
}

/** What DescribeInstances says of an instance, as a record. Empty fields are left out. */
export function instanceFacts(id: string, instance: Instance, source: string): WorkerRecord {
  const tags = Object.fromEntries((instance.Tags ?? []).map(({ Key = '', Value = '' }) => [Key, Value]));
  const reason = instance.StateReason?.Message || instance.StateTransitionReason;
  return {
    id,
    ...(tags['Name'] ? { name: tags['Name'] } : {}),
    provider: 'ec2',
    state: instance.State?.Name ?? 'unknown',
    ...(instance.PublicIpAddress ? { public_ip: instance.PublicIpAddress } : {}),
    ...(instance.PrivateIpAddress ? { private_ip: instance.PrivateIpAddress } : {}),
    ...(instance.InstanceType ? { instance_type: instance.InstanceType } : {}),
    ...(instance.LaunchTime ? { launch_time: instance.LaunchTime.toISOString() } : {}),
    ...(Object.keys(tags).length === 0 ? {} : { tags }),
    ...mapTarget(id, tags),
    source,
    ...(reason ? { reason } : {}),
    lifecycle: instance.InstanceLifecycle === 'spot' ? 'spot' : 'on-demand',
  };
}

function healthOf(status: InstanceStatus): Health {
  const event = (status.Events ?? [])
    .filter((candidate) => !isOver(candidate))
    .toSorted((a, b) => (a.NotBefore?.getTime() ?? 0) - (b.NotBefore?.getTime() ?? 0))[0];
  const check = worstCheck([status.SystemStatus?.Status, status.InstanceStatus?.Status]);
  return {
    ...(check === undefined ? {} : { check }),
    ...(event === undefined ? {} : { event: scheduledEvent(event) }),
  };
}

/** EC2 lists events for a week after they are over, and says so only at the begin of their description. */
function isOver({ Description = '' }: InstanceStatusEvent): boolean {
  return /^\[(Completed|Canceled)\]/.test(Description);
}

function scheduledEvent({ Code, Description, NotBefore }: InstanceStatusEvent): Interruption {
  return {
    kind: 'scheduled-event',
    ...(NotBefore === undefined ? {} : { at: NotBefore.toISOString() }),
    detail: [Code, Description].filter(Boolean).join(': '),
  };
}

/** From bad to good. `not-applicable` (it does not run) is nothing to tell. */
const CHECKS = ['impaired', 'insufficient-data', 'initializing', 'ok'];

function worstCheck(checks: readonly (string | undefined)[]): string | undefined {
  return CHECKS.find((check) => checks.includes(check));
}
