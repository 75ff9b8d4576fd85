/**
 * Whose repair is halted, judged over the whole fleet whenever something was seen. How each Worker counts is kept, and
 * found anew only where something changed, since a judgement comes before each round of plans. What a judgement needs of
 * the past is in memory, too. A new leader begins without: to it, all that is bad has just gone bad, so it halts at least
 * what its predecessor had halted.
 */
import { type HaltMember, type HaltMemory, haltMemberOf, judgeHalts, NO_HALTS } from '@carrierarr/reconcile';
import type { Fleet } from './fleet.js';
import type { Views } from './view.js';

export interface HaltsOptions {
  fleet: Fleet;
  views: Pick<Views, 'observationOf'>;
  nowMs: () => number;
}

export class Halts {
  readonly #o: HaltsOptions;
  readonly #members = new Map<string, HaltMember>();
  #memory: HaltMemory = NO_HALTS;
  #halted: ReadonlyMap<string, string> = new Map();

  constructor(options: HaltsOptions) {
    this.#o = options;
  }

  /** Groups (names of pools, or '' for the Workers outside pools) whose repair is halted. */
  get groups(): number {
    return this.#halted.size;
  }

  /** Why the repair of a group is halted; undefined if it is not. */
  reasonOf(group: string): string | undefined {
    return this.#halted.get(group);
  }

  /** A Worker was changed, or something else was seen of it. */
  look(name: string): void {
    const { fleet, views, nowMs } = this.#o;
    const worker = fleet.get('Worker', name);
    if (worker === undefined) this.#members.delete(name);
    else this.#members.set(name, haltMemberOf({ worker, observation: views.observationOf(worker), nowMs: nowMs() }));
  }

  /** The same for all of them. */
  lookAtAll(): void {
    this.#members.clear();
    for (const { metadata } of this.#o.fleet.workers()) this.look(metadata.name);
  }

  /** Judges anew. Returns the groups whose repair was halted or taken up again by that. */
  judge(): string[] {
    const before = this.#halted;
    const { halted, memory } = judgeHalts([...this.#members.values()], this.#memory, this.#o.nowMs());
    this.#halted = halted;
    this.#memory = memory;
    return [...new Set([...before.keys(), ...halted.keys()])].filter(
      (group) => before.has(group) !== halted.has(group),
    );
  }
}
