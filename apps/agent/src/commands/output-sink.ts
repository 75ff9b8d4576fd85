/**
 * Where the lines of a command go: to a control plane that stores them as they come, or into the one result that an old
 * control plane takes.
 */
import { type AppendAnswer, type LineBlock, Spool, type SpoolBudget } from '@carrierarr/execution';
import type { Clock } from '@carrierarr/platform';
import { decodeEntry, type StreamLetter } from '@carrierarr/protocol';
import { type CommandOutput, OutputStream } from '@carrierarr/protocol/agent-control';
import type { AgentMetrics } from '../metrics.js';

/** What a result says of the output. */
export interface OutputFacts {
  sequence: number;
  lines: number;
  truncatedLines: number;
  stdout: string;
  stderr: string;
}

export interface OutputSink {
  push(block: LineBlock): void;
  /** Resolves once all of it has been taken, or never will be. */
  drained(): Promise<void>;
  /** Gives up what has not been taken. */
  stop(): void;
  facts(): OutputFacts;
}

export interface StreamSinkOptions {
  commandId: string;
  fence: number;
  bytesMax: number;
  spoolBytesMax: number;
  budget: SpoolBudget;
  send: (output: CommandOutput) => Promise<AppendAnswer>;
  onPause: (isPaused: boolean) => void;
  onFenced: () => void;
  metrics: AgentMetrics;
  clock: Clock;
}

const STREAMS: Record<StreamLetter, OutputStream> = {
  o: OutputStream.OUTPUT_STREAM_STDOUT,
  e: OutputStream.OUTPUT_STREAM_STDERR,
  l: OutputStream.OUTPUT_STREAM_LOG,
};
/** The spool writes an execution's id into its entries; ids of commands may hold anything, and go beside them. */
const NAME_IN_SPOOL = 'command';

/** Numbered entries, kept until the control plane has stored them. */
export class StreamSink implements OutputSink {
  readonly #o: StreamSinkOptions;
  readonly #spool: Spool;
  #bytes = 0;
  #lines = 0;
  #truncated = 0;
  #sequence: number | undefined;

  constructor(options: StreamSinkOptions) {
    const { clock, budget, spoolBytesMax, onPause, onFenced, metrics } = options;
    this.#o = options;
    this.#spool = new Spool({
      execution: NAME_IN_SPOOL,
      append: (sequence, _lines, entry) => this.#send(sequence, entry),
      ...{ clock, budget, bytesMax: spoolBytesMax, onPause, onFenced },
      onTrouble: (what) => {
        if (what === 'retry') metrics.appendRetries.inc();
      },
    });
  }

  push({ stream, lines, body }: LineBlock): void {
    if (this.#truncated > 0 || this.#bytes + body.length > this.#o.bytesMax) {
      this.#truncated += lines;
      this.#o.metrics.truncatedLines.inc(lines);
      return;
    }
    this.#bytes += body.length;
    this.#lines += lines;
    this.#spool.push(stream, lines, body);
  }

  async drained(): Promise<void> {
    await this.#spool.drained();
  }

  stop(): void {
    // It forgets its entries, and so their number.
    this.#sequence = this.#newest;
    this.#spool.stop();
  }

  facts(): OutputFacts {
    return {
      ...{
        sequence: this.#newest,
        lines: this.#lines,
        truncatedLines: this.#truncated,
        stdout: '',
        stderr: '',
      },
    };
  }

  get #newest(): number {
    return this.#sequence ?? this.#spool.sequence;
  }

  #send(sequence: number, bytes: Buffer): Promise<AppendAnswer> {
    const { commandId, fence, send } = this.#o;
    const entry = decodeEntry(bytes);
    const base = { commandId, fence, sequence, timeMs: entry.timeMs };
    if (entry.kind === 'lines') {
      const runs = entry.runs.map(({ stream, lines }) => ({ stream: STREAMS[stream], lines }));
      return send({ ...base, runs, body: entry.body });
    }
    // The spool's own word, about entries that are gone on both sides.
    const event = entry.kind === 'event' ? entry.event : undefined;
    const text = event?.type === 'error' ? event.error : 'Output was lost.';
    const runs = [{ stream: OutputStream.OUTPUT_STREAM_LOG, lines: 1 }];
    return send({ ...base, runs, body: Buffer.from(text) });
  }
}

/** The first bytes of each stream, for one result. */
export class ResultSink implements OutputSink {
  readonly #bytesMax: number;
  readonly #kept = { o: [] as Buffer[], e: [] as Buffer[] };
  readonly #bytes = { o: 0, e: 0 };
  #lines = 0;
  #truncated = 0;

  /** `bytesMax`: of each stream. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  push({ stream, lines, body }: LineBlock): void {
    const to = stream === 'e' ? 'e' : 'o';
    const room = this.#bytesMax - this.#bytes[to];
    if (body.length + 1 > room) {
      this.#truncated += lines;
      // Full from here on: what follows a hole would be taken for its continuation.
      this.#bytes[to] = this.#bytesMax;
      return;
    }
    this.#bytes[to] += body.length + 1;
    this.#lines += lines;
    this.#kept[to].push(Buffer.from(body), NEWLINE);
  }

  drained(): Promise<void> {
    return Promise.resolve();
  }

  stop(): void {
    // Nothing is under way.
  }

  facts(): OutputFacts {
    const text = (which: 'o' | 'e') => Buffer.concat(this.#kept[which]).toString('utf8');
    const mark = this.#truncated > 0 ? `…[${this.#truncated} lines more]\n` : '';
    return {
      ...{ sequence: 0, lines: this.#lines, truncatedLines: this.#truncated },
      ...{ stdout: text('o') + mark, stderr: text('e') },
    };
  }
}

const NEWLINE = Buffer.from('\n');
