/** What the steps of one term need to change anything. Each change carries the term's fence, so it is refused once another leads. */
import type { Logger } from '@carrierarr/platform';
import { type Resource, type ResourceKind, SYSTEM_SUBJECTS } from '@carrierarr/protocol';
import type { PlannedCommand, PlannedEvent } from '@carrierarr/reconcile';
import {
  DeposedError,
  type DrainQueue,
  type FencedSubmitAnswer,
  type ResourceEvents,
  type ResourceStore,
  type Submission,
} from '@carrierarr/store';
import type { Fleet } from './fleet.js';
import type { ReconcileMetrics } from './metrics.js';
import { Telling } from './telling.js';

export interface EffectsOptions {
  fence: number;
  /** Aborts when the term is over. */
  signal: AbortSignal;
  fleet: Fleet;
  resources: Pick<ResourceStore, 'get' | 'put' | 'remove'>;
  /** The queue; CommandStore is one. */
  commands: { submit(submission: Submission): Promise<FencedSubmitAnswer> };
  drain: Pick<DrainQueue, 'add'>;
  events: Pick<ResourceEvents, 'record'>;
  /** This monitor; shown as where the commands came from. */
  monitor: string;
  metrics: ReconcileMetrics;
  logger: Pick<Logger, 'debug' | 'warn'>;
}

/** A command that the queue would not take now. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
}

export class Effects {
  readonly #o: EffectsOptions;
  readonly #telling: Telling;

  constructor(options: EffectsOptions) {
    this.#o = options;
    this.#telling = new Telling({
      record: (kind, name, event) => this.#record(kind, name, event),
      signal: options.signal,
      onDropped: () => options.metrics.eventsDropped.inc(),
    });
  }

  /**
   * Writes a resource if nobody has since it was read. Otherwise reads what is there, and answers `conflict`: what was
   * decided was decided on something else.
   */
  async write(resource: Resource, expected: string): Promise<'written' | 'conflict'> {
    const { resources, fleet, fence, signal } = this.#o;
    signal.throwIfAborted();
    const answer = await resources.put(resource, expected, fence);
    if (answer.kind === 'ok') {
      fleet.learn(answer.resource);
      return 'written';
    }
    await this.#readAgain(resource.kind, resource.metadata.name);
    return 'conflict';
  }

  /**
   * Removes a resource for good, if it is still as it was when that was decided. No revision is given out twice, so one
   * that was made anew under the name meanwhile, which keeps its machine, is another one.
   */
  async remove(resource: Resource): Promise<'removed' | 'conflict'> {
    const { resources, fleet, fence, signal } = this.#o;
    const { kind, metadata } = resource;
    signal.throwIfAborted();
    const { kind: what } = await resources.remove(kind, metadata.name, metadata.resourceVersion, fence);
    if (what !== 'conflict') {
      fleet.unlearn(resource);
      return 'removed';
    }
    await this.#readAgain(kind, metadata.name);
    return 'conflict';
  }

  /**
   * Gives a command under a token; the same token is the same command, however often it is given. Returns its
   * execution. Throws {@link RefusedError} when it is to be tried later, and DeposedError.
   */
  async submit(
    target: string,
    { verb, args, token, onlyIfIdle }: PlannedCommand,
  ): Promise<{ execution: string; position: number }> {
    const { commands, fence, signal, monitor, metrics } = this.#o;
    signal.throwIfAborted();
    const answer = await commands.submit({
      ...{ target, command: verb, args, subject: SYSTEM_SUBJECTS.reconciler, address: '', gateway: monitor },
      ...{ clientId: token, idempotent: false, leaderFence: fence, ...(onlyIfIdle && { onlyIfIdle }) },
    });
    metrics.commands.inc({ verb, answer: answer.kind === 'accepted' && answer.duplicate ? 'duplicate' : answer.kind });
    switch (answer.kind) {
      case 'accepted':
        this.#announce(target);
        return { execution: answer.execution, position: answer.position };
      case 'deposed':
        throw new DeposedError(fence, String(answer.fence));
      case 'busy':
        throw new RefusedError(`${verb} is given to ${target} only if it is idle, and somebody's command came first.`);
      case 'conflict':
        throw new RefusedError(
          `The token ${token} was used for another command on ${target} (execution ${answer.execution}). ` +
            "Change the Worker's spec: its next generation has other tokens.",
        );
      case 'queue-full':
        throw new RefusedError(`${target} has ${answer.length} commands waiting, as many as are allowed.`);
      case 'too-many-pending':
        throw new RefusedError(`${answer.targets} targets have commands waiting, as many as are allowed.`);
    }
  }

  /** Tells people, soon: not before what is done, and in order. */
  tell(kind: ResourceKind, name: string, events: readonly PlannedEvent[]): void {
    this.#telling.add(kind, name, events);
  }

  /** What cannot be told now is not told: it is not worth repeating a look for. */
  async #record(kind: ResourceKind, name: string, event: PlannedEvent): Promise<void> {
    const { events, fence, logger } = this.#o;
    try {
      await events.record(kind, name, event, fence);
    } catch (error) {
      logger.debug({ err: error, kind, resource: name, reason: event.reason }, 'an event could not be recorded');
    }
  }

  /** Wakes a runner. If that fails, a runner finds the command by itself within seconds. */
  #announce(target: string): void {
    this.#o.drain
      .add(target)
      .catch((error: unknown) =>
        this.#o.logger.debug({ err: error, target }, 'a drain job could not be added; a runner will sweep it up'),
      );
  }

  async #readAgain(kind: ResourceKind, name: string): Promise<void> {
    const { resources, fleet, metrics } = this.#o;
    metrics.conflicts.inc();
    const known = fleet.get(kind, name);
    const present = await resources.get(kind, name);
    if (present !== undefined) fleet.learn(present);
    else if (known !== undefined) fleet.unlearn(known);
  }
}
