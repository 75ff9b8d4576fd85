/**
 * Targets that no cloud covers: their control script is asked, as everybody's commands are, through the queue and its
 * lock. `status` may take long or wait behind a long command, so a poll waits for a while and then goes by what it knows;
 * a target whose last `status` has not ended is not asked again. When each target was really seen is told one by one.
 *
 * Each question starts a program. So while polls come fast because one target is on its way to another state, only such
 * targets are asked each time, and the others as often as ever.
 */
import { sleep, type Clock } from '@carrierarr/platform';
import type { SeenWorker, WorkerRecord } from '@carrierarr/protocol';
import type { ObserveMetrics } from './metrics.js';
import { scriptIdOf } from './script-id.js';
import { isTransition } from './poll-rhythm.js';
import { checkWorkerCount, type PollResult, recordOf, type Source, SourceError } from './source.js';

/** Targets whose `status` is waited for at once. */
export const ASKED_AT_ONCE_MAX = 16;
/** How long a poll waits for one target, ms. */
export const TARGET_WAIT_MS = 10_000;
/** How long a poll goes on asking, ms; targets it did not get to are first in the next one. */
export const POLL_WAIT_MS = 30_000;
/** A target to which something happens is asked in each poll for this long, ms. */
export const WATCHED_MS = 60_000;
/** Of the configured time between polls: a target that was asked so long ago is due, though timers may be early. */
const DUE_SHARE = 0.9;
/** Between two looks at an execution: first and last, ms. */
const LOOK_MS_FIRST = 100;
const LOOK_MS_MAX = 1_000;
/** State of a target whose script does not tell. */
const UNKNOWN = 'unknown';
/** Most characters of a last line that a reason repeats. */
const QUOTE_LENGTH_MAX = 120;

/** How a `status` command gets on. `gone`: its record is not there any more. */
export type StatusExecution =
  | { readonly state: 'waiting' | 'running' | 'gone' }
  | { readonly state: 'ended'; readonly outcome: string; readonly exitCode: number; readonly endedAtMs: number };

/** The queue, as far as it is needed here. */
export interface StatusCommands {
  /** Submits verb `status`; resolves with the execution's id. */
  submit(target: string): Promise<string>;
  execution(target: string, id: string): Promise<StatusExecution>;
  /** The last line that the execution wrote to standard output. */
  lastLine(target: string, id: string): Promise<string | undefined>;
}

export interface ScriptSourceOptions {
  /** Targets to look at: those of Worker resources that no cloud source covers. Asked at each poll. */
  readonly targets: () => readonly string[];
  /** What targets told before, whoever asked them: it holds until they are asked again. */
  readonly known: readonly SeenWorker[];
  /** Configured time between two polls, ms. */
  readonly pollMs: number;
  readonly commands: StatusCommands;
  readonly clock: Clock;
  readonly metrics: Pick<ObserveMetrics, 'scriptTargetsSkipped'>;
}

/** What is known of one target. */
interface Look {
  record: WorkerRecord | undefined;
  seenAtMs: number | undefined;
  /** Its `status` command that has not ended. */
  pending: string | undefined;
  /** When the poll began that asked it last and got on with it, monotonic ms. */
  askedMs: number;
}

export class ScriptSource implements Source {
  readonly name = 'script';
  /** A target that nobody declares any more is not gone; it is only not looked at. */
  readonly hasTombstones = false;
  readonly #options: ScriptSourceOptions;
  #looks = new Map<string, Look>();
  /** Targets to which something happens, until when they are asked in each poll, monotonic ms. */
  readonly #watched = new Map<string, number>();

  constructor(options: ScriptSourceOptions) {
    this.#options = options;
    for (const worker of options.known) {
      if (worker.source !== this.name) continue;
      const look = {
        // Older versions had the target for its id, whatever it is called.
        record: { ...recordOf(worker), id: scriptIdOf(worker.target) },
        seenAtMs: Date.parse(worker.observed_at),
        pending: undefined,
        askedMs: -Infinity,
      };
      this.#looks.set(worker.target, look);
    }
  }

  expectChange(target: string): void {
    this.#watched.set(target, this.#options.clock.monotonicMs() + WATCHED_MS);
  }

  /** Throws when no target could be asked at all: then the queue is away, and nothing is known anew. */
  async poll(signal: AbortSignal): Promise<PollResult> {
    const looks = this.#declared();
    checkWorkerCount(looks.size, this.name, 0, 'Declare fewer Workers.');
    const { clock } = this.#options;
    const beganMs = clock.monotonicMs();
    for (const [target, ms] of this.#watched) if (ms < beganMs || !looks.has(target)) this.#watched.delete(target);
    const line = [...looks].filter(([target, look]) => this.#isDue(target, look, beganMs));
    line.sort(([, a], [, b]) => a.askedMs - b.askedMs);
    const isOfAll = line.length === looks.size;
    const untilMs = beganMs + POLL_WAIT_MS;
    let asked = 0;
    const errors: unknown[] = [];
    const work = async () => {
      for (let next = line.shift(); next !== undefined; next = line.shift()) {
        if (signal.aborted || clock.monotonicMs() >= untilMs) return;
        const [target, look] = next;
        asked += 1;
        try {
          await this.#look(target, look, signal);
          look.askedMs = beganMs;
        } catch (error) {
          errors.push(error);
        }
      }
    };
    await Promise.all(Array.from({ length: ASKED_AT_ONCE_MAX }, work));
    signal.throwIfAborted();
    // Of a few, each may have a trouble of its own; if it is the queue's, all of them are due before long.
    if (isOfAll && asked > 0 && errors.length === asked) throw unreachable(errors[0], asked);
    return this.#result(looks, errors);
  }

  /** What is to be looked at, with what is known of it; the rest is forgotten. */
  #declared(): Map<string, Look> {
    const before = this.#looks;
    const fresh = (): Look => ({ record: undefined, seenAtMs: undefined, pending: undefined, askedMs: -Infinity });
    this.#looks = new Map(this.#options.targets().map((target) => [target, before.get(target) ?? fresh()]));
    return this.#looks;
  }

  #isDue(target: string, { record, pending, askedMs }: Look, nowMs: number): boolean {
    if (nowMs - askedMs >= DUE_SHARE * this.#options.pollMs) return true;
    if (pending !== undefined || this.#watched.has(target)) return true;
    return record !== undefined && isTransition(record.state);
  }

  #result(looks: ReadonlyMap<string, Look>, errors: readonly unknown[]): PollResult {
    const known = [...looks.values()].flatMap(({ record, seenAtMs }) =>
      record && seenAtMs !== undefined ? [{ record, seenAtMs }] : [],
    );
    return {
      kind: 'complete',
      records: known.map(({ record }) => record),
      calls: 0,
      seenAtMs: Object.fromEntries(known.map(({ record, seenAtMs }) => [record.id, seenAtMs])),
      ...(errors.length === 0
        ? {}
        : { warning: `${errors.length} targets could not be asked for their status: ${messageOf(errors[0])}` }),
    };
  }

  /** Asks a target, or sees how its last question got on. */
  async #look(target: string, look: Look, signal: AbortSignal): Promise<void> {
    const { commands, clock, metrics } = this.#options;
    if (look.pending !== undefined) {
      await this.#answer(target, look, look.pending);
      // Just answered, it is as fresh as asking again would make it.
      if (look.pending !== undefined) metrics.scriptTargetsSkipped.inc();
      return;
    }
    look.pending = await commands.submit(target);
    const untilMs = clock.monotonicMs() + TARGET_WAIT_MS;
    for (let pauseMs = LOOK_MS_FIRST; ; pauseMs = Math.min(LOOK_MS_MAX, pauseMs * 2)) {
      await this.#answer(target, look, look.pending);
      if (look.pending === undefined || signal.aborted || clock.monotonicMs() + pauseMs > untilMs) return;
      await sleep(clock, pauseMs);
    }
  }

  /** If `execution` has ended, takes what it says. */
  async #answer(target: string, look: Look, execution: string): Promise<void> {
    const { commands } = this.#options;
    const view = await commands.execution(target, execution);
    if (view.state === 'waiting' || view.state === 'running') return;
    if (view.state === 'ended') {
      const line = await commands.lastLine(target, execution);
      look.record = scriptRecord(target, line, view);
      look.seenAtMs = view.endedAtMs;
    }
    look.pending = undefined;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function unreachable(cause: unknown, count: number): SourceError {
  return new SourceError(
    `The status of ${count} targets could not be asked: ${messageOf(cause)}. Check Redis and that a runner is there.`,
    { calls: 0, cause },
  );
}

/** Fields of the script's answer that become fields of the record, and what they have to be. */
const TEXT_FIELDS = ['name', 'public_ip', 'private_ip', 'instance_type', 'launch_time', 'health_check'] as const;

/** Most characters of a field that are kept: records of all workers go to every client. */
const FIELD_LENGTH_MAX = 500;

/** What a target's `status` said, as a record: its last line if that is a JSON object with `state`, else `unknown`. */
export function scriptRecord(
  target: string,
  line: string | undefined,
  { outcome, exitCode }: { outcome: string; exitCode: number },
): WorkerRecord {
  const base = { id: scriptIdOf(target), target, mapped_by: 'resource', source: 'script' } as const;
  // Of one that was cut short, the last line is any line.
  const answer = outcome === 'succeeded' || outcome === 'failed' ? jsonObject(line) : undefined;
  const state = answer?.['state'];
  if (answer === undefined || typeof state !== 'string' || state === '') {
    return { ...base, provider: 'script', state: UNKNOWN, reason: whyUnknown(line, outcome, exitCode) };
  }
  const texts = TEXT_FIELDS.flatMap((field) => {
    const value = answer[field];
    return typeof value === 'string' && value !== '' ? [[field, bounded(value)] as const] : [];
  });
  const { provider, reason, idle_seconds: idle } = answer;
  return {
    ...base,
    ...(Object.fromEntries(texts) as Partial<Record<(typeof TEXT_FIELDS)[number], string>>),
    provider: typeof provider === 'string' && provider !== '' ? bounded(provider) : 'script',
    state: bounded(state),
    ...(typeof reason === 'string' && reason !== '' ? { reason: bounded(reason) } : {}),
    ...(typeof idle === 'number' && idle >= 0 ? { idle_seconds: idle } : {}),
  };
}

function bounded(text: string): string {
  return text.length > FIELD_LENGTH_MAX ? `${text.slice(0, FIELD_LENGTH_MAX)}…` : text;
}

function jsonObject(line: string | undefined): Record<string, unknown> | undefined {
  if (line === undefined || !line.trimStart().startsWith('{')) return undefined;
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return undefined; // A line that only looks like JSON; the record says what it was.
  }
}

function whyUnknown(line: string | undefined, outcome: string, exitCode: number): string {
  const end = outcome === 'succeeded' ? '' : ` (${outcome}, exit code ${exitCode})`;
  const wanted = 'expected its last line to be JSON such as {"state":"running"}';
  if (line === undefined) return `status wrote nothing${end}; ${wanted}`;
  const shown = line.length > QUOTE_LENGTH_MAX ? `${line.slice(0, QUOTE_LENGTH_MAX)}…` : line;
  return `status ended with ${JSON.stringify(shown)}${end}; ${wanted}`;
}
