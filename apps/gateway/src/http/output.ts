/**
 * `GET /api/v1/executions/{id}/output`: what an execution wrote, as text or as JSON lines, once or followed until its
 * result. The client's speed sets the pace: the next page is read when the one before has been taken.
 *
 * JSON lines are the messages of `/ws` with offsets. The last one is the `result`; if the output stops before (it was not
 * followed, or the gateway ends), it is `{"type":"end",...}` with where to go on. An empty line now and then shows that
 * a quiet stream is alive. Text has only what the script wrote, so its head too comes with the first line; what is
 * missing at its beginning is said by a header, what is missing later by a line.
 */
import type { Clock } from '@carrierarr/platform';
import { ClientError, type Execution, type outputQuerySchema, type PlacedEntry } from '@carrierarr/protocol';
import type { ExecutionHistory, OutputLog } from '@carrierarr/store';
import type { Counter } from 'prom-client';
import type { Credential } from '../access/authenticate.js';
import type { ConnectionLimits } from '../access/connection-limits.js';
import { encodeGap, encodePlaced, timestampOf } from '../delivery/encode.js';
import { RedisAwayError, type RedisHealth } from '../redis-health.js';
import type { Exchange } from './exchange.js';
import { ExecutionReader, type OutputGap, type Piece } from './execution-reader.js';

/** How often a follower looks even if nothing woke it, and whether its token still holds. */
const TICK_MS = 5_000;
/** Ticks between signs of life on a quiet stream: below the 60 s of common proxies. */
const TICKS_PER_SIGN = 5;

/** Bytes gathered for one write, while there are more. */
const WRITE_BYTES = 64 * 1024;

/** Missing lines before the first line of a text answer: `<first>-<last> <reason>`. */
export const GAP_HEADER = 'X-Carrierarr-Gap';

export type OutputQuery = ReturnType<(typeof outputQuerySchema)['parse']>;

export interface OutputDependencies {
  history: ExecutionHistory;
  log: OutputLog;
  redis: RedisHealth;
  limits: ConnectionLimits;
  clock: Clock;
  gaps: Counter;
  /** Calls `onChange` after each new entry of a target. Returns what ends that. */
  wakeOn: (target: string, onChange: () => void) => () => void;
  stillValid: (credential: Credential) => boolean;
}

type EndReason = 'not_followed' | 'ended' | 'draining' | 'unauthenticated';

export class OutputRoute {
  readonly #d: OutputDependencies;
  readonly #stops = new Set<() => void>();
  #isStopped = false;

  constructor(dependencies: OutputDependencies) {
    this.#d = dependencies;
  }

  /** Followers now. */
  get following(): number {
    return this.#stops.size;
  }

  /** Ends the answers of all followers, as the gateway shuts down. */
  stop(): void {
    this.#isStopped = true;
    for (const stop of this.#stops) stop();
  }

  /** Answers; resolves when all is said. Throws ClientError before anything is said, ClientGoneError. */
  async serve(exchange: Exchange, id: string, query: OutputQuery, credential: Credential): Promise<void> {
    const { history, log, redis } = this.#d;
    const known = await redis.bounded(() => history.get(id));
    if (!known) throw unknownExecution(id);
    if (known.probe === true) throw outputOfProbe(id);
    const bounds = await redis.bounded(() => log.bounds(known.target));
    // Again, for it may have started before the log's end was read.
    const execution = known.state === 'queued' ? ((await redis.bounded(() => history.get(id))) ?? known) : known;
    const { last_offset: last } = execution;
    if (last !== undefined && execution.epoch === bounds.epoch && bounds.first > last) {
      throw new ClientError(
        'history_trimmed',
        `The output of ${id} (offsets up to ${last}) is no longer kept: the log of its target begins at ${bounds.first}. ` +
          'The --history settings say how much is kept.',
      );
    }
    const reader = new ExecutionReader({ log, redis, execution, newestBefore: bounds.last });
    if (query.tail !== undefined) await reader.skipToTail(query.tail);
    const format = query.format === 'json' ? jsonFormat(execution) : textFormat();
    if (exchange.method === 'HEAD') {
      exchange.answer({ status: 200, headers: format.headers });
      return;
    }
    // Either may go on for long, if the client is slow.
    const release = this.#d.limits.admit(exchange.facts.address);
    try {
      if (query.follow === 'true') await this.#follow(exchange, reader, execution, format, credential);
      else await this.#copy(exchange, reader, format, bounds.last);
    } finally {
      release();
    }
  }

  /** All there is now: up to `newest`, for a script may write faster than the client reads. */
  async #copy(exchange: Exchange, reader: ExecutionReader, format: OutputFormat, newest: number): Promise<void> {
    await this.#begin(exchange, reader, format);
    try {
      while (!reader.isComplete && !reader.hasReachedEnd && reader.position.offset < newest)
        await this.#send(exchange, await reader.next(), format);
      await this.#finish(exchange, reader, format, 'not_followed');
    } catch (error) {
      // The head is out already: all that is left is not to look complete.
      exchange.cut();
      throw error;
    }
  }

  /** All there is, and then what comes, until the result. */
  async #follow(
    exchange: Exchange,
    reader: ExecutionReader,
    execution: Execution,
    format: OutputFormat,
    credential: Credential,
  ): Promise<void> {
    const { clock, history, redis, stillValid, wakeOn } = this.#d;
    const alarm = new Alarm();
    const stop = () => alarm.ring();
    let ticks = 0;
    // Before the first page is read, so that nothing can come between it and the first wait.
    const unwatch = wakeOn(execution.target, () => alarm.ring());
    const timer = clock.setInterval(() => {
      ticks += 1;
      alarm.ring();
    }, TICK_MS);
    this.#stops.add(stop);
    exchange.onGone(() => alarm.ring());
    try {
      await this.#begin(exchange, reader, format);
      for (let seenTicks = 0; !reader.isComplete && !exchange.isGone;) {
        if (this.#isStopped) return await this.#finish(exchange, reader, format, 'draining');
        if (!stillValid(credential)) return await this.#finish(exchange, reader, format, 'unauthenticated');
        try {
          if (!reader.hasReachedEnd || alarm.isRinging) {
            alarm.reset();
            await this.#send(exchange, await reader.next(), format);
          }
          if (ticks > seenTicks && reader.hasReachedEnd && !reader.isComplete) {
            // Its result may be lost with an old log. A look at the record now and then keeps us from waiting for ever.
            const now = await redis.bounded(() => history.get(execution.id));
            if (now?.state !== 'running' && now?.state !== 'queued') reader.ended(now);
          }
        } catch (error) {
          // While Redis is away the script may go on, and so does this; what was written comes later.
          if (!(error instanceof RedisAwayError)) throw error;
          await alarm.wait();
        }
        if (Math.floor(ticks / TICKS_PER_SIGN) > Math.floor(seenTicks / TICKS_PER_SIGN)) {
          await exchange.write(format.signOfLife);
        }
        seenTicks = ticks;
        if (reader.hasReachedEnd && !reader.isComplete) await alarm.wait();
      }
      await this.#finish(exchange, reader, format, 'ended');
    } catch (error) {
      exchange.cut();
      throw error;
    } finally {
      this.#stops.delete(stop);
      timer.cancel();
      unwatch();
    }
  }

  /** The head, which has to wait for the first page: only that shows what is missing at the beginning. */
  async #begin(exchange: Exchange, reader: ExecutionReader, format: OutputFormat): Promise<void> {
    const pieces = reader.isComplete ? [] : await reader.next();
    const gap = pieces[0]?.kind === 'gap' ? pieces[0].gap : undefined;
    const isInHead = gap !== undefined && format.isGapInHead;
    const headers = isInHead
      ? { ...format.headers, [GAP_HEADER]: `${gap.from}-${gap.to} ${gap.reason}` }
      : format.headers;
    if (isInHead) this.#d.gaps.inc();
    exchange.begin(200, headers);
    // uWebSockets.js completes the head with the first piece: without one the client would not learn that all is well.
    if (pieces.length === 0) await exchange.write(format.signOfLife);
    await this.#send(exchange, isInHead ? pieces.slice(1) : pieces, format);
  }

  async #send(exchange: Exchange, pieces: readonly Piece[], format: OutputFormat): Promise<void> {
    let gathered: Buffer[] = [];
    let bytes = 0;
    for (const piece of pieces) {
      if (piece.kind === 'gap') this.#d.gaps.inc();
      const said =
        piece.kind === 'gap' ? format.gap(piece, this.#d.clock.now()) : format.entry(piece.placed, piece.after);
      gathered.push(typeof said === 'string' ? Buffer.from(said) : said);
      bytes += said.length;
      if (bytes < WRITE_BYTES) continue;
      await exchange.write(Buffer.concat(gathered));
      gathered = [];
      bytes = 0;
    }
    await exchange.write(Buffer.concat(gathered));
  }

  async #finish(exchange: Exchange, reader: ExecutionReader, format: OutputFormat, why: EndReason): Promise<void> {
    if (!reader.hasReadResult) await exchange.write(format.end(reader, why, this.#d.clock.now()));
    // Text cannot say that more would have followed, but a broken connection does.
    if (reader.isComplete || why === 'not_followed' || format.hasEnd) exchange.end();
    else exchange.cut();
  }
}

export function unknownExecution(id: string): ClientError {
  const seen = JSON.stringify(id.slice(0, 100));
  return new ClientError(
    'not_found',
    `There is no execution ${seen}, or its record is no longer kept. See GET /api/v1/executions.`,
  );
}

function outputOfProbe(id: string): ClientError {
  return new ClientError(
    'history_trimmed',
    `${JSON.stringify(id)} is a monitor's look at the status of a worker: of its output only the last line is kept. ` +
      `It is "answer" in GET /api/v1/executions/${id}. Run the command "status" to see all of it.`,
  );
}

interface OutputFormat {
  headers: Record<string, string>;
  /** A gap at the very beginning is said by a header. */
  isGapInHead: boolean;
  signOfLife: string;
  /** It has a way to say why it stops. */
  hasEnd: boolean;
  entry(placed: PlacedEntry, after: number): string | Buffer;
  gap(piece: OutputGap, nowMs: number): string;
  end(reader: ExecutionReader, reason: EndReason, nowMs: number): string;
}

function jsonFormat(execution: Execution): OutputFormat {
  return {
    headers: { 'Content-Type': 'application/x-ndjson; charset=utf-8' },
    isGapInHead: false,
    signOfLife: '\n',
    hasEnd: true,
    entry: (placed, after) => lineOf(encodePlaced(placed, after, 'offsets')),
    gap: ({ gap }, nowMs) => lineOf(encodeGap(gap, timestampOf(nowMs), 'offsets')),
    end: (reader, reason, nowMs) =>
      lineOf(
        JSON.stringify({
          type: 'end',
          timestamp: timestampOf(nowMs),
          target: execution.target,
          execution_id: execution.id,
          reason,
          ...reader.position,
        }),
      ),
  };
}

function textFormat(): OutputFormat {
  return {
    headers: { 'Content-Type': 'text/plain; charset=utf-8' },
    isGapInHead: true,
    signOfLife: '',
    hasEnd: false,
    entry: textOf,
    gap: ({ gap: { from, to, reason } }) => `[carrierarr: output is missing here: ${from} to ${to}, ${reason}]\n`,
    end: () => '',
  };
}

function lineOf(messages: string): string {
  return messages === '' ? '' : `${messages}\n`;
}

/** What the script itself wrote of an entry, from after an offset. */
function textOf({ entry, last, count }: PlacedEntry, after: number): string | Buffer {
  if (entry.kind === 'unreadable') return `[carrierarr: ${count} lines are missing here: unreadable]\n`;
  if (entry.kind === 'event') return '';
  let offset = last - count;
  if (after <= offset && entry.runs.every(({ stream }) => stream !== 'l')) return Buffer.concat([entry.body, NEWLINE]);
  const lines = entry.body.toString('utf8').split('\n');
  let text = '';
  let index = 0;
  for (const { stream, lines: length } of entry.runs) {
    for (let i = 0; i < length; i += 1) {
      offset += 1;
      if (offset > after && stream !== 'l') text += `${lines[index] ?? ''}\n`;
      index += 1;
    }
  }
  return text;
}

const NEWLINE = Buffer.from('\n');

/** Rings until it is reset, however often it is rung: what happens between two looks is not forgotten. */
class Alarm {
  #resolve: (() => void) | undefined;
  isRinging = false;

  ring(): void {
    this.isRinging = true;
    this.#resolve?.();
    this.#resolve = undefined;
  }

  reset(): void {
    this.isRinging = false;
  }

  /** Resolves when it rings. */
  async wait(): Promise<void> {
    if (this.isRinging) return;
    await new Promise<void>((resolve) => {
      this.#resolve = resolve;
    });
  }
}
