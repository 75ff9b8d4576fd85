/**
 * The way of one execution's lines to Redis: gathered into numbered entries, sent in order, kept until acknowledged.
 *
 * Batching is clocked by acknowledgements: a line that finds nothing in flight leaves at once; what comes while an
 * append is in flight is gathered and leaves with its acknowledgement, or earlier when an entry is full. So a quiet
 * script has no delay and a fast one has large entries.
 *
 * The append script in Redis takes entry n + 1 only after entry n, and answers `hole` otherwise. That makes every
 * failure the same: stop sending, let what is in flight settle, go back to the first entry that Redis does not have,
 * send again. Entries are kept for a while after their acknowledgement too, since a failover may lose what was
 * acknowledged. Is an entry gone that Redis lost, an error event takes its place: a gap is never silent.
 *
 * Bounds: bytes per execution and over all executions. Above them the script's pipes are not read (`onPause`), below
 * half of them they are again.
 */
import { type Clock, backoffMs, type Timer } from '@carrierarr/platform';
import { encodeEntry, ENTRY_BYTES_MAX, type Run, type StreamLetter } from '@carrierarr/protocol';
import { type Deferred, deferred } from '../deferred.js';
import { countNewlines } from './count-newlines.js';

/** Appends of one execution on their way at once. The connection keeps their order. */
const IN_FLIGHT_MAX = 4;
/** Acknowledged entries that are kept for a failover. */
const KEPT_BYTES_MAX = 1024 * 1024;
const KEPT_ENTRIES_MAX = 1000;
const KEPT_MS = 5_000;
/** What a block or an entry costs beside its bytes, about. */
const OVERHEAD_BYTES = 128;
const RETRY_BASE_MS = 50;
const RETRY_CAP_MS = 1_000;
const NEWLINE = 10;

interface SpooledEntry {
  runs: Run[];
  lines: number;
  /** Lines, or the JSON of an error event that stands for lost entries. */
  body: Buffer | string;
  timeMs: number;
  bytes: number;
  /** When it was acknowledged, monotonic ms. */
  ackedMs: number;
}

/** Bytes that all spools of a process may hold together. */
export class SpoolBudget {
  #used = 0;
  readonly #waiting = new Set<() => void>();

  constructor(readonly bytesMax: number) {}

  get used(): number {
    return this.#used;
  }

  get isOver(): boolean {
    return this.#used >= this.bytesMax;
  }

  get isBelowHalf(): boolean {
    return this.#used <= this.bytesMax / 2;
  }

  add(bytes: number): void {
    this.#used += bytes;
    if (bytes < 0 && this.isBelowHalf) for (const wake of [...this.#waiting]) wake();
  }

  /** Calls `wake` whenever there is room again, until {@link SpoolBudget.ignore}. */
  await(wake: () => void): void {
    this.#waiting.add(wake);
  }

  ignore(wake: () => void): void {
    this.#waiting.delete(wake);
  }
}

/** What became of an entry; the store answers so. */
export type AppendAnswer =
  | { kind: 'ok' }
  /** The entry was appended before (its acknowledgement was lost). */
  | { kind: 'repeated' }
  /** Forgotten after it was acknowledged: send again from `known + 1`. */
  | { kind: 'hole'; known: number }
  | { kind: 'fenced' };

export interface SpoolOptions {
  execution: string;
  append: (sequence: number, lines: number, entry: Buffer) => Promise<AppendAnswer>;
  clock: Clock;
  budget: SpoolBudget;
  /** Bytes this execution may hold. */
  bytesMax: number;
  /** Stop (true) or go on (false) feeding. What is pushed in spite of it is kept too. */
  onPause: (isPaused: boolean) => void;
  /** Another holds this execution for lost: nothing more can be written. */
  onFenced: () => void;
  /** Counts of things that went wrong, for metrics and logs. */
  onTrouble?: (what: 'retry' | 'hole' | 'lost', detail: unknown) => void;
}

export class Spool {
  readonly #o: SpoolOptions;
  /** Acknowledged ones that are still kept, then those that are not. */
  readonly #entries: SpooledEntry[] = [];
  /** Sequence of `#entries[0]`. */
  #first = 1;
  #acked = 0;
  #sent = 0;
  #inFlight = 0;
  #keptBytes = 0;

  #openRuns: Run[] = [];
  #openBodies: Buffer[] = [];
  #openLines = 0;
  #openBytes = 0;
  #openTimeMs = 0;

  /** Not acknowledged. */
  #bytes = 0;
  #isPaused = false;
  #isStopped = false;
  #resumeFrom: number | undefined;
  #isFlushing = false;
  /** Times in a row that it went back without an acknowledgement between. */
  #setbacks = 0;
  #mustWait = false;
  #retryTimer: Timer | undefined;
  #drained: Deferred<'drained' | 'stopped'> | undefined;
  readonly #wake = () => this.#checkBounds();

  constructor(options: SpoolOptions) {
    this.#o = options;
  }

  /** Bytes that Redis has not acknowledged. */
  get bytes(): number {
    return this.#bytes;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Sequence of the newest entry; 0 if there is none. */
  get sequence(): number {
    return this.#first + this.#entries.length - 1;
  }

  /** Takes complete lines joined by `\n`. */
  push(stream: StreamLetter, lines: number, body: Buffer): void {
    if (this.#isStopped) return;
    let rest = body;
    let restLines = lines;
    for (;;) {
      const room = ENTRY_BYTES_MAX - this.#openBytes - OVERHEAD_BYTES;
      if (rest.length <= room) break;
      // Up to the last line that fits; a line above the size of an entry has one to itself.
      let end = restLines > 1 && room > 0 ? rest.lastIndexOf(NEWLINE, room) : -1;
      if (end < 0 && this.#openLines > 0) {
        this.#seal();
        continue;
      }
      if (end < 0) end = rest.indexOf(NEWLINE);
      if (end < 0) break;
      const after = rest.subarray(end + 1);
      const pieceLines = countFirst(rest, end, restLines);
      this.#add(stream, pieceLines, rest.subarray(0, end));
      rest = after;
      restLines -= pieceLines;
    }
    this.#add(stream, restLines, rest);
    this.#pump();
    this.#checkBounds();
  }

  /** Resolves once Redis has all that was pushed (`drained`), or never will (`stopped`). */
  drained(): Promise<'drained' | 'stopped'> {
    this.#drained ??= deferred();
    this.#isFlushing = true;
    const { promise } = this.#drained;
    this.#pump();
    this.#settleDrained();
    return promise;
  }

  /** Redis has only entries up to `known`: sends the following ones again. */
  rewind(known: number): void {
    this.#goBack(known + 1, false);
  }

  /** Forgets everything and sends no more. */
  stop(): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#retryTimer?.cancel();
    this.#o.budget.ignore(this.#wake);
    this.#grow(-this.#bytes);
    this.#entries.length = 0;
    this.#openBodies = [];
    this.#drained?.resolve('stopped');
    if (this.#isPaused) {
      this.#isPaused = false;
      this.#o.onPause(false);
    }
  }

  #add(stream: StreamLetter, lines: number, body: Buffer): void {
    if (this.#openLines === 0) this.#openTimeMs = this.#o.clock.now();
    const run = this.#openRuns.at(-1);
    if (run?.stream === stream) run.lines += lines;
    else this.#openRuns.push({ stream, lines });
    this.#openBodies.push(body);
    this.#openLines += lines;
    this.#openBytes += body.length + OVERHEAD_BYTES;
    this.#grow(body.length + OVERHEAD_BYTES);
  }

  #grow(bytes: number): void {
    this.#bytes += bytes;
    this.#o.budget.add(bytes);
  }

  #seal(): void {
    const body = joinLines(this.#openBodies);
    const bytes = body.length + OVERHEAD_BYTES;
    this.#entries.push({
      runs: this.#openRuns,
      lines: this.#openLines,
      body,
      timeMs: this.#openTimeMs,
      bytes,
      ackedMs: 0,
    });
    this.#grow(bytes - this.#openBytes);
    this.#openRuns = [];
    this.#openBodies = [];
    this.#openLines = 0;
    this.#openBytes = 0;
  }

  #pump(): void {
    if (this.#isStopped || this.#resumeFrom !== undefined || this.#retryTimer !== undefined) return;
    while (this.#inFlight < IN_FLIGHT_MAX) {
      if (this.#sent === this.#entries.length) {
        if (this.#openLines === 0 || (this.#inFlight > 0 && !this.#isFlushing)) return;
        this.#seal();
      }
      void this.#send(this.#entries[this.#sent] as SpooledEntry, this.#first + this.#sent);
      this.#sent++;
    }
  }

  async #send(entry: SpooledEntry, sequence: number): Promise<void> {
    this.#inFlight++;
    let answer: AppendAnswer | undefined;
    let problem: unknown;
    try {
      answer = await this.#o.append(sequence, entry.lines, this.#encode(entry, sequence));
    } catch (error) {
      problem = error;
    }
    this.#inFlight--;
    if (this.#isStopped) return;
    switch (answer?.kind) {
      case 'ok':
      case 'repeated':
        this.#acknowledge(sequence);
        break;
      case 'hole':
        // An entry before this one failed, which goes back by itself, or a failover lost some.
        this.#o.onTrouble?.('hole', answer.known);
        this.#goBack(answer.known + 1, false);
        break;
      case 'fenced':
        this.stop();
        this.#o.onFenced();
        return;
      case undefined:
        this.#o.onTrouble?.('retry', problem);
        this.#goBack(this.#first + this.#acked, true);
    }
    this.#resume();
    this.#pump();
    this.#checkBounds();
    this.#settleDrained();
  }

  #acknowledge(sequence: number): void {
    this.#setbacks = 0;
    const now = this.#o.clock.monotonicMs();
    for (; this.#first + this.#acked <= sequence && this.#acked < this.#entries.length; this.#acked++) {
      const entry = this.#entries[this.#acked] as SpooledEntry;
      entry.ackedMs = now;
      this.#keptBytes += entry.bytes;
      this.#grow(-entry.bytes);
    }
    let forget = 0;
    for (; forget < this.#acked; forget++) {
      const { bytes, ackedMs } = this.#entries[forget] as SpooledEntry;
      const isKept =
        this.#keptBytes <= KEPT_BYTES_MAX && this.#acked - forget <= KEPT_ENTRIES_MAX && now - ackedMs <= KEPT_MS;
      if (isKept) break;
      this.#keptBytes -= bytes;
    }
    if (forget === 0) return;
    this.#entries.splice(0, forget);
    this.#first += forget;
    this.#acked -= forget;
    this.#sent -= forget;
  }

  /** Sending goes on from `sequence` once nothing is in flight; after a pause if that was tried before, or Redis fails. */
  #goBack(sequence: number, isFailure: boolean): void {
    if (this.#resumeFrom === undefined) this.#setbacks++;
    this.#mustWait ||= isFailure || this.#setbacks > 1;
    this.#resumeFrom = Math.min(sequence, this.#resumeFrom ?? sequence);
    this.#resume();
    this.#pump();
  }

  #resume(): void {
    if (this.#resumeFrom === undefined || this.#inFlight > 0 || this.#isStopped) return;
    const from = this.#resumeFrom;
    this.#resumeFrom = undefined;
    if (from < this.#first) this.#fillLost(from);
    const index = from - this.#first;
    for (; this.#acked > index; this.#acked--) {
      const { bytes } = this.#entries[this.#acked - 1] as SpooledEntry;
      this.#keptBytes -= bytes;
      this.#grow(bytes);
    }
    this.#sent = this.#acked;
    if (!this.#mustWait) return;
    this.#mustWait = false;
    const delayMs = RETRY_BASE_MS + backoffMs({ attempt: this.#setbacks, baseMs: RETRY_BASE_MS, capMs: RETRY_CAP_MS });
    this.#retryTimer ??= this.#o.clock.setTimeout(() => {
      this.#retryTimer = undefined;
      this.#pump();
    }, delayMs);
  }

  /** Entries from `sequence` on are gone here and in Redis: says so in their place, and renumbers what is left. */
  #fillLost(sequence: number): void {
    const missing = this.#first - sequence;
    this.#o.onTrouble?.('lost', missing);
    const error = `Redis lost ${missing} entries of output that it had acknowledged (a failover, or data not yet on its disk).`;
    const body = JSON.stringify({ type: 'error', code: 'internal', error });
    this.#entries.unshift({ runs: [], lines: 1, body, timeMs: this.#o.clock.now(), bytes: OVERHEAD_BYTES, ackedMs: 0 });
    this.#keptBytes += OVERHEAD_BYTES;
    this.#acked++;
    this.#first = sequence;
  }

  #encode({ runs, body, timeMs }: SpooledEntry, sequence: number): Buffer {
    const base = { execution: this.#o.execution, sequence, timeMs };
    if (typeof body === 'string') return encodeEntry({ ...base, kind: 'event', event: JSON.parse(body) });
    return encodeEntry({ ...base, kind: 'lines', runs, body });
  }

  #checkBounds(): void {
    if (this.#isStopped) return;
    const { budget, bytesMax, onPause } = this.#o;
    if (!this.#isPaused && (this.#bytes >= bytesMax || budget.isOver)) {
      this.#isPaused = true;
      budget.await(this.#wake);
      onPause(true);
    } else if (this.#isPaused && this.#bytes <= bytesMax / 2 && budget.isBelowHalf) {
      this.#isPaused = false;
      budget.ignore(this.#wake);
      onPause(false);
    }
  }

  #settleDrained(): void {
    if (this.#drained === undefined) return;
    if (this.#isStopped) this.#drained.resolve('stopped');
    else if (this.#openLines === 0 && this.#acked === this.#entries.length && this.#resumeFrom === undefined) {
      this.#drained.resolve('drained');
    } else return;
    this.#drained = undefined;
    this.#isFlushing = false;
  }
}

/** Lines before the newline at `end`, of `lines` joined by newlines; looks at the shorter side only. */
function countFirst(body: Buffer, end: number, lines: number): number {
  if (end < body.length / 2) return countNewlines(body.subarray(0, end)) + 1;
  return lines - 1 - countNewlines(body.subarray(end + 1));
}

const SEPARATOR = Buffer.from('\n');

function joinLines(bodies: readonly Buffer[]): Buffer {
  if (bodies.length === 1) return bodies[0] as Buffer;
  return Buffer.concat(bodies.flatMap((body, i) => (i === 0 ? [body] : [SEPARATOR, body])));
}
