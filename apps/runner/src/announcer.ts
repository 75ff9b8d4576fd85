/** Tells the others that this runner is there, and finds out when a newer start of the same runner id has taken over. */
import { hostname } from 'node:os';
import { type Clock, type Timer, version } from '@carrierarr/platform';
import type { RunnerRegistry } from '@carrierarr/store';

export interface AnnouncerOptions {
  registry: RunnerRegistry;
  runner: { id: string; incarnation: string };
  concurrency: number;
  running: () => number;
  clock: Clock;
  /** Another process with this id started later. */
  onSuperseded: (by: { host: string; pid: number }) => void;
  onTrouble: (error: unknown) => void;
}

const ANNOUNCE_MS = 5_000;

export class Announcer {
  readonly #o: AnnouncerOptions;
  #timer: Timer | undefined;
  #startedMs = 0;

  constructor(options: AnnouncerOptions) {
    this.#o = options;
  }

  /** `startedMs`: by Redis' clock, so that starts on several machines compare. */
  async start(startedMs: number): Promise<void> {
    this.#startedMs = startedMs;
    await this.#announce();
    this.#timer = this.#o.clock.setInterval(() => void this.#announce().catch(this.#o.onTrouble), ANNOUNCE_MS);
  }

  stop(): void {
    this.#timer?.cancel();
  }

  async #announce(): Promise<void> {
    const { registry, runner, concurrency, running, clock, onSuperseded } = this.#o;
    const known = await registry.get(runner.id);
    if (
      known !== undefined &&
      known.incarnation !== runner.incarnation &&
      Date.parse(known.started_at) > this.#startedMs
    ) {
      this.stop();
      onSuperseded(known);
      return;
    }
    await registry.announce({
      ...runner,
      ...{ version: version(), host: hostname(), pid: process.pid, concurrency, running: running() },
      started_at: new Date(this.#startedMs).toISOString(),
      seen_at: new Date(clock.now()).toISOString(),
    });
  }
}
