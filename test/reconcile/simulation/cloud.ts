/**
 * The machines as they are, and as a poll shows them: up to {@link LAG_MAX_MS} in the past, now and then without one
 * of them, the terminated forgotten after a while.
 */
import type { Random } from './random.js';

/** Less than CLOUD_LAG_MS of the planner, which counts on this bound. */
export const LAG_MAX_MS = 55_000;
/** Shorter than at AWS (about an hour), so that a run sees it. */
const FORGOTTEN_AFTER_MS = 150_000;

export interface Machine {
  id: string;
  target: string;
  token: string;
  launchedAtMs: number;
  /** What it becomes when: in order of time, the future included. */
  history: { atMs: number; state: string }[];
  /** When it last had work. */
  workedAtMs: number;
}

export class Cloud {
  readonly machines: Machine[] = [];
  /** How far its clock is ahead of everybody else's. */
  skewMs = 0;
  /** Polls fail until then. */
  awayUntilMs = 0;
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  /** The same token is the same machine. */
  provision(target: string, token: string, nowMs: number, faulty: boolean): Machine {
    const known = this.machines.find((machine) => machine.token === token);
    if (known !== undefined) return known;
    const runsAtMs = nowMs + this.#random.between(1_000, 20_000);
    const machine: Machine = {
      id: `i-${this.machines.length}`,
      target,
      token,
      launchedAtMs: nowMs + this.skewMs,
      history: [
        { atMs: nowMs, state: 'pending' },
        { atMs: runsAtMs, state: faulty && this.#random.chance(0.1) ? 'terminated' : 'running' },
      ],
      workedAtMs: nowMs,
    };
    this.machines.push(machine);
    return machine;
  }

  start(machine: Machine, nowMs: number): void {
    if (stateAt(machine, nowMs) === 'stopped')
      this.#become(machine, nowMs, 'pending', 'running', this.#random.between(1_000, 20_000));
    machine.workedAtMs = Math.max(machine.workedAtMs, nowMs);
  }

  stop(machine: Machine, nowMs: number): void {
    if (stateAt(machine, nowMs) === 'running' || stateAt(machine, nowMs) === 'pending')
      this.#become(machine, nowMs, 'stopping', 'stopped', this.#random.between(1_000, 20_000));
  }

  terminate(machine: Machine, nowMs: number): void {
    if (isLiving(machine, nowMs))
      this.#become(machine, nowMs, 'shutting-down', 'terminated', this.#random.between(1_000, 20_000));
  }

  #become(machine: Machine, nowMs: number, first: string, then: string, delayMs: number): void {
    machine.history = machine.history.filter((each) => each.atMs <= nowMs);
    machine.history.push({ atMs: nowMs, state: first }, { atMs: nowMs + delayMs, state: then });
  }

  /** Requests reach the machines that run, past every queue. */
  work(nowMs: number): void {
    for (const machine of this.machines) if (stateAt(machine, nowMs) === 'running') machine.workedAtMs = nowMs;
  }

  /** Those of a target that are not gone or going. */
  living(target: string, atMs: number): Machine[] {
    return this.machines.filter((machine) => machine.target === target && isLiving(machine, atMs));
  }

  /**
   * What a poll shows of all machines.
   *
   * @param wasListed whether the last complete poll showed a machine: twice in a row none is left out by chance
   */
  list(nowMs: number, faulty: boolean, wasListed: (id: string) => boolean): { machine: Machine; state: string }[] {
    const lagMs = this.#random.chance(faulty ? 0.4 : 0.1) ? this.#random.between(0, LAG_MAX_MS) : 0;
    const asOfMs = nowMs - lagMs;
    const seen = this.machines
      .map((machine) => ({ machine, state: stateAt(machine, asOfMs) }))
      .filter(({ machine, state }) => state !== undefined && !isForgotten(machine, nowMs)) as {
      machine: Machine;
      state: string;
    }[];
    if (!faulty || seen.length === 0 || !this.#random.chance(0.1)) return seen;
    const left = this.#random.pick(seen);
    return wasListed(left.machine.id) ? seen.filter((each) => each !== left) : seen;
  }
}

export function stateAt(machine: Machine, atMs: number): string | undefined {
  let state: string | undefined;
  for (const each of machine.history) if (each.atMs <= atMs) state = each.state;
  return state;
}

export function isLiving(machine: Machine, atMs: number): boolean {
  const state = stateAt(machine, atMs);
  return state !== undefined && state !== 'terminated' && state !== 'shutting-down';
}

function isForgotten(machine: Machine, nowMs: number): boolean {
  const last = machine.history.at(-1);
  return last !== undefined && last.state === 'terminated' && nowMs - last.atMs > FORGOTTEN_AFTER_MS;
}
