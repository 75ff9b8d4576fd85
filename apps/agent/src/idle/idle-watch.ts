/** Looks every now and then whether the machine is busy, remembers since when it is not, and pulls the dead-man switch. */
import { readFile } from 'node:fs/promises';
import type { Clock, Logger, Timer } from '@carrierarr/platform';
import { StateFile } from '../state/state-file.js';
import { decideSwitch, idleAfter, idleMsAtStart, idleShutdownMs, type SwitchState } from './dead-man-switch.js';
import { type IdleBounds, type IdleMemory, type IdleSight, type IdleSource, judgeIdle, NO_MEMORY } from './idle.js';

export interface IdleWatchOptions {
  stateDir: string;
  /** Of `--idle-shutdown`. */
  flagMs: number;
  bounds: IdleBounds;
  look: () => Promise<IdleSight>;
  /** Powers the machine off. May fail; it is tried again. */
  powerOff: (idleMs: number) => Promise<void>;
  clock: Clock;
  logger: Logger;
  /** Identifies the machine's boot; of Linux by default. */
  bootId?: () => Promise<string>;
}

/** Between two looks; also after a power-off that failed. */
export const LOOK_EVERY_MS = 15_000;
/** The state is not written more often because of being busy. */
const WRITE_EVERY_MS = 60_000;

export class IdleWatch {
  readonly #o: IdleWatchOptions;
  readonly #file: StateFile<SwitchState>;
  #state: SwitchState = { bootId: '', idleMs: 0, seenMs: 0 };
  /** Idle time until `#seenMs`. */
  #idleMs = 0;
  /** When it was last looked, monotonic. Epoch times are for the disk only: that clock jumps. */
  #seenMs: number;
  #memory: IdleMemory = NO_MEMORY;
  #unknown: readonly IdleSource[] = [];
  #writtenMs = Number.NEGATIVE_INFINITY;
  #timer: Timer | undefined;
  #isPoweringOff = false;
  #looking: Promise<void> | undefined;
  #busy: string | undefined;
  #isUnwritten = false;

  constructor(options: IdleWatchOptions) {
    this.#o = options;
    this.#file = new StateFile(options.stateDir, 'idle.json');
    this.#seenMs = options.clock.monotonicMs();
  }

  get idleMs(): number {
    return idleAfter(this.#idleMs, this.#o.clock.monotonicMs() - this.#seenMs);
  }

  /** Why the machine was busy at the last look. */
  get busy(): string | undefined {
    return this.#busy;
  }

  /** Why it cannot be told whether the machine is idle; empty: it can. It is not powered off meanwhile. */
  get unknown(): readonly IdleSource[] {
    return this.#unknown;
  }

  /** What counts now; 0 is off. */
  get limitMs(): number {
    return idleShutdownMs(this.#o.flagMs, this.#state.ordered);
  }

  async start(): Promise<void> {
    const { clock, logger, bootId = linuxBootId } = this.#o;
    const kept = await this.#file.read();
    const boot = await bootId();
    const nowMs = clock.now();
    this.#see(idleMsAtStart(kept, boot, nowMs));
    const ordered = kept?.ordered !== undefined && { ordered: kept.ordered };
    this.#state = { bootId: boot, idleMs: this.#idleMs, seenMs: nowMs, ...ordered };
    if (this.limitMs > 0) {
      logger.info({ afterMs: this.limitMs, idleMs: Math.round(this.idleMs) }, 'powers off when idle');
    }
    await this.#write();
    this.#timer = clock.setInterval(() => void this.look(), LOOK_EVERY_MS);
  }

  async stop(): Promise<void> {
    this.#timer?.cancel();
    await this.#looking;
  }

  /** Of a control plane, ms; 0 turns the switch off. Kept over restarts. */
  async order(limitMs: number): Promise<void> {
    if (limitMs === this.limitMs) return;
    this.#o.logger.info({ afterMs: limitMs, beforeMs: this.limitMs }, 'told when to power off');
    this.#state.ordered = { idleShutdownMs: limitMs, flagMs: this.#o.flagMs };
    await this.#write();
  }

  /** A command begins or ends: busy, whatever the next look says. */
  touch(): void {
    this.#see(0);
  }

  /** Looks now. Never rejects. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => (this.#looking = undefined));
    return this.#looking;
  }

  async #look(): Promise<void> {
    const { look, bounds, clock, powerOff, logger } = this.#o;
    try {
      const sight = await look();
      const times = { epochMs: clock.now(), monotonicMs: clock.monotonicMs() };
      const { because, unknown, memory } = judgeIdle(sight, this.#memory, bounds, times);
      if (unknown.length > 0 && this.#unknown.length === 0 && this.limitMs > 0) {
        logger.warn({ unknown }, 'it cannot be told whether the machine is idle: it is not powered off meanwhile');
      }
      [this.#busy, this.#unknown, this.#memory] = [because, unknown, memory];
      this.#see(this.#busy === undefined ? this.idleMs : 0);
      // At once if the disk has it that the machine is idle, and it is not: the next agent would believe it.
      const isFalse = this.#state.idleMs > this.idleMs + WRITE_EVERY_MS;
      if (isFalse || clock.monotonicMs() - this.#writtenMs >= WRITE_EVERY_MS) await this.#write();
      const answer = decideSwitch(this.limitMs, this.idleMs);
      if (answer.kind !== 'power-off' || this.#isPoweringOff) return;
      this.#isPoweringOff = true;
      logger.warn({ idleMs: Math.round(answer.idleMs), limitMs: this.limitMs }, 'idle for too long: powering off');
      await powerOff(answer.idleMs);
    } catch (error) {
      logger.error({ err: error }, 'could not see to the dead-man switch; trying again');
    } finally {
      this.#isPoweringOff = false;
    }
  }

  #see(idleMs: number): void {
    this.#idleMs = idleMs;
    this.#seenMs = this.#o.clock.monotonicMs();
  }

  async #write(): Promise<void> {
    const { clock, logger } = this.#o;
    this.#writtenMs = clock.monotonicMs();
    this.#state = { ...this.#state, idleMs: this.idleMs, seenMs: clock.now() };
    // Without a disk it still works, until the next restart.
    try {
      await this.#file.write(this.#state);
      this.#isUnwritten = false;
    } catch (error) {
      if (!this.#isUnwritten) logger.error({ err: error }, 'idle state not written');
      this.#isUnwritten = true;
    }
  }
}

async function linuxBootId(): Promise<string> {
  const text = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => 'unknown');
  return text.trim();
}
