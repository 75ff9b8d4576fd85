/**
 * Redis as the monitors use it: each call happens at once and alone, or fails, and a failed one may have happened.
 * Resources with optimistic concurrency; a lease with a fence; commands with idempotency tokens, in order.
 */
import type { Outcome, SeenWorker, WorkerPoolResource, WorkerResource } from '@carrierarr/protocol';
import type { Agenda } from './agenda.js';
import { Broken } from './broken.js';
import type { Random } from './random.js';

export const LEASE_MS = 9_000;

export class Unavailable extends Error {}
export class Deposed extends Error {}

export interface Command {
  id: string;
  token: string;
  target: string;
  verb: string;
  args: string[];
  /** The fence of the leader that gave it; undefined for a user's. */
  fence: number | undefined;
  state: 'queued' | 'running' | 'ended';
  outcome?: Outcome;
  endedAtMs?: number;
}

/** The status of all machines, as the leader last published it. */
export interface Published {
  polledAtMs: number;
  records: ReadonlyMap<string, SeenWorker & { missed: number }>;
}

export interface Breaks {
  /** Commands of deposed leaders are accepted. */
  noFence?: boolean;
  /** Plans take what is stale for fresh. */
  actOnStale?: boolean;
  /** Plans forget what was given before. */
  noExpectations?: boolean;
  /** Plans take an old poll for one that began now. */
  trustOldPolls?: boolean;
}

export class ModelRedis {
  readonly workers = new Map<string, WorkerResource>();
  pool: WorkerPoolResource | undefined;
  published: Published | undefined;
  readonly commands: Command[] = [];
  readonly byToken = new Map<string, Command>();
  lease: { holder: number; fence: number; untilMs: number } = { holder: -1, fence: 0, untilMs: 0 };
  /** Of the queue's partitions. */
  controllerFence = 0;
  awayUntilMs = 0;
  /** Workers that were deleted and are done with. */
  removed = 0;
  /** Probability that a call fails. */
  flakiness = 0;
  #revision = 0;
  readonly #agenda: Agenda;
  readonly #random: Random;
  readonly #breaks: Breaks;
  onAccepted: (command: Command) => void = () => undefined;

  constructor(agenda: Agenda, random: Random, breaks: Breaks) {
    this.#agenda = agenda;
    this.#random = random;
    this.#breaks = breaks;
  }

  /** Every call of a monitor goes through here. */
  call<T>(effect: () => T): T {
    if (this.#agenda.nowMs < this.awayUntilMs) throw new Unavailable('away');
    const fails = this.flakiness > 0 && this.#random.chance(this.flakiness);
    if (fails && this.#random.chance(0.5)) throw new Unavailable('before it happened');
    const answer = effect();
    if (fails) throw new Unavailable('after it happened');
    return answer;
  }

  hold(holder: number): number | undefined {
    const { lease } = this;
    const { nowMs } = this.#agenda;
    if (lease.holder === holder && lease.untilMs > nowMs) lease.untilMs = nowMs + LEASE_MS;
    else if (lease.untilMs <= nowMs) this.lease = { holder, fence: lease.fence + 1, untilMs: nowMs + LEASE_MS };
    else return undefined;
    return this.lease.fence;
  }

  raise(fence: number): void {
    if (fence < this.controllerFence) throw new Deposed();
    this.controllerFence = fence;
  }

  /** As the Lua of status and resources does: they lie with the lease. */
  fenced(fence: number): void {
    if (fence === this.lease.fence || this.#breaks.noFence === true) return;
    throw new Deposed();
  }

  putWorker(next: WorkerResource, expected: string | undefined): WorkerResource | undefined {
    const { name } = next.metadata;
    const before = this.workers.get(name);
    if (expected !== undefined && (before?.metadata.resourceVersion ?? '0') !== expected) return undefined;
    const written = { ...next, metadata: { ...next.metadata, resourceVersion: this.nextRevision() } };
    this.workers.set(name, written);
    return written;
  }

  removeWorker(name: string, expected: string): boolean {
    if (this.workers.get(name)?.metadata.resourceVersion !== expected) return false;
    this.removed += 1;
    return this.workers.delete(name);
  }

  nextRevision(): string {
    this.#revision += 1;
    return String(this.#revision);
  }

  /** The same token is the same command. */
  submit(command: Pick<Command, 'token' | 'target' | 'verb' | 'args' | 'fence'>): void {
    const deposed = command.fence !== undefined && command.fence < this.controllerFence;
    if (deposed && this.#breaks.noFence !== true) throw new Deposed();
    if (this.byToken.has(command.token)) return;
    if (deposed) throw new Broken(`a deposed leader (fence ${command.fence}) gave ${command.token}`);
    const accepted: Command = { ...command, id: `e${this.commands.length}`, state: 'queued' };
    this.commands.push(accepted);
    this.byToken.set(accepted.token, accepted);
    this.#agenda.tell(() => `${accepted.verb} ${accepted.target} is accepted (${accepted.token})`);
    this.onAccepted(accepted);
  }

  /** Commands of a target that are not over. */
  pending(target: string): Command[] {
    return this.commands.filter((command) => command.target === target && command.state !== 'ended');
  }
}
