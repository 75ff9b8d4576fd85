/**
 * Runs commands: one at a time for each target, in order. Scripts take time, fail (before or after they had an
 * effect), get lost with their runner (and may have an effect even after they were declared lost), and look at a
 * cloud that answers from the past.
 */
import type { Outcome } from '@carrierarr/protocol';
import type { Agenda } from './agenda.js';
import { Broken } from './broken.js';
import { type Cloud, LAG_MAX_MS, type Machine } from './cloud.js';
import type { Random } from './random.js';
import type { Command, ModelRedis } from './redis.js';

/** A script whose runner was lost is over this long after it was declared so; the target is closed until then. */
export const LOST_SCRIPT_MS = 45_000;

export class Runner {
  readonly #o: { agenda: Agenda; random: Random; redis: ModelRedis; cloud: Cloud; faulty: () => boolean };
  readonly #occupied = new Set<string>();
  /** The cloud that the scripts speak to, or only files on a disk: those know at once. */
  scripted = false;

  constructor(options: { agenda: Agenda; random: Random; redis: ModelRedis; cloud: Cloud; faulty: () => boolean }) {
    this.#o = options;
    options.redis.onAccepted = (command) => this.#next(command.target);
  }

  #next(target: string): void {
    const { agenda, random, redis } = this.#o;
    if (this.#occupied.has(target)) return;
    const command = redis.pending(target)[0];
    if (command === undefined) return;
    this.#occupied.add(target);
    agenda.after(random.between(50, 1_000), () => this.#run(command));
  }

  #run(command: Command): void {
    const { agenda, random, faulty } = this.#o;
    command.state = 'running';
    const durationMs = random.between(500, command.verb === 'job' ? 40_000 : 15_000);
    const luck = faulty() ? random.next() : 1;
    if (luck < 0.15) {
      // Its runner dies: declared lost a while later; the script may go on for as long as the target is closed.
      const lostAtMs = agenda.nowMs + durationMs + 12_000;
      if (random.chance(0.6))
        agenda.at(agenda.nowMs + random.between(0, durationMs + 12_000 + LOST_SCRIPT_MS - 1), () =>
          this.#effect(command),
        );
      agenda.at(lostAtMs, () => this.#end(command, 'lost', LOST_SCRIPT_MS));
      return;
    }
    const fails = luck < 0.35;
    if (!fails || random.chance(0.5)) agenda.after(random.between(0, durationMs), () => this.#effect(command));
    agenda.after(durationMs, () =>
      this.#end(command, fails ? random.pick<Outcome>(['failed', 'failed', 'timed-out', 'killed']) : 'succeeded', 0),
    );
  }

  #end(command: Command, outcome: Outcome, closedMs: number): void {
    const { agenda } = this.#o;
    command.state = 'ended';
    command.outcome = outcome;
    command.endedAtMs = agenda.nowMs;
    agenda.tell(() => `${command.verb} ${command.target} ended as ${outcome} (${command.token})`);
    agenda.after(closedMs, () => {
      this.#occupied.delete(command.target);
      this.#next(command.target);
    });
  }

  #effect(command: Command): void {
    const { agenda, cloud, random, faulty } = this.#o;
    const { target, token, verb } = command;
    const { nowMs } = agenda;
    agenda.tell(() => `the script does ${verb} ${target} (${token})`);
    // What the script finds by its target, perhaps as it was.
    const lagMs = !this.scripted && faulty() && random.chance(0.3) ? random.between(0, LAG_MAX_MS) : 0;
    const found = cloud
      .living(target, nowMs - lagMs)
      .filter((machine: Machine) => cloud.living(target, nowMs).includes(machine));
    switch (verb) {
      case 'provision':
        this.#make(target, token);
        break;
      case 'start':
        if (this.scripted && found.length === 0) this.#make(target, token);
        for (const machine of found) cloud.start(machine, nowMs);
        break;
      case 'stop':
        for (const machine of found) cloud.stop(machine, nowMs);
        break;
      case 'terminate':
        for (const machine of found) cloud.terminate(machine, nowMs);
        break;
      default:
        for (const machine of cloud.living(target, nowMs)) machine.workedAtMs = nowMs;
    }
  }

  #make(target: string, token: string): void {
    const { agenda, cloud, faulty } = this.#o;
    const count = cloud.machines.length;
    cloud.provision(target, token, agenda.nowMs, faulty());
    if (cloud.machines.length === count) return;
    const living = cloud.living(target, agenda.nowMs);
    if (living.length > 1)
      throw new Broken(
        `${target} has ${living.length} machines: ${living.map((machine) => `${machine.id} by ${machine.token}`).join(', ')}`,
      );
  }
}
