/**
 * Whether a program can do its job now. Each condition it depends on is a named check; it is ready when all hold. It
 * starts not ready, and once it drains it stays not ready: proxies must not send new work to a program about to end.
 */
import { type Clock, systemClock } from './clock.js';

export interface CheckState {
  readonly ok: boolean;
  /** For people: what is wrong, or what holds. */
  readonly detail: string;
  /** RFC 3339; when `ok` last changed. */
  readonly since: string;
}

export interface ReadinessReport {
  readonly ready: boolean;
  readonly draining: boolean;
  readonly checks: Readonly<Record<string, CheckState>>;
}

export interface ReadinessOptions {
  /** Checks that must be set ok before the program is ready. */
  readonly checks?: readonly string[];
  readonly clock?: Clock;
}

export class Readiness {
  readonly #checks = new Map<string, CheckState>();
  readonly #clock: Clock;
  #isDraining = false;

  constructor({ checks = [], clock = systemClock }: ReadinessOptions = {}) {
    this.#clock = clock;
    for (const name of checks) this.set(name, false, 'not started yet');
  }

  /** Sets a check, and adds it when it is new. */
  set(name: string, ok: boolean, detail = ok ? 'ok' : 'not ok'): void {
    const before = this.#checks.get(name);
    const since = before && before.ok === ok ? before.since : new Date(this.#clock.now()).toISOString();
    this.#checks.set(name, { ok, detail, since });
  }

  /** Not ready from now on, for good. */
  drain(): void {
    this.#isDraining = true;
    this.set('draining', false, 'stopping: no new work');
  }

  /** Without any check there is nothing to be sure of, so it is not ready. */
  ready(): ReadinessReport {
    const states = [...this.#checks.values()];
    const ready = !this.#isDraining && states.length > 0 && states.every(({ ok }) => ok);
    return { ready, draining: this.#isDraining, checks: Object.fromEntries(this.#checks) };
  }
}
