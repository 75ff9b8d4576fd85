/** Entries of output that are on their way, and the answers to them. */
import type { AppendAnswer } from '@carrierarr/execution';
import type { Clock, Timer } from '@carrierarr/platform';
import { type CommandOutput, type OutputAck, OutputVerdict } from '@carrierarr/protocol/agent-control';

type EntryName = Pick<CommandOutput, 'commandId' | 'fence' | 'sequence'>;

interface Waiting {
  resolve(answer: AppendAnswer): void;
  reject(error: Error): void;
  timer: Timer;
}

/** After that an entry is sent again; sooner if the stream breaks. */
const ANSWER_WAIT_MS = 15_000;

export class OutputAcks {
  readonly #waiting = new Map<string, Waiting>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Resolves with the answer to an entry that was just sent. Rejects when it must be sent again. */
  wait(entry: EntryName): Promise<AppendAnswer> {
    const key = keyOf(entry);
    return new Promise((resolve, reject) => {
      const timer = this.#clock.setTimeout(() => {
        this.#waiting.delete(key);
        reject(new Error(`no answer within ${ANSWER_WAIT_MS / 1000} s`));
      }, ANSWER_WAIT_MS);
      this.#waiting.set(key, { resolve, reject, timer });
    });
  }

  take(ack: OutputAck): void {
    const key = keyOf(ack);
    const waiting = this.#waiting.get(key);
    // Answered before, or its command is gone.
    if (waiting === undefined) return;
    this.#waiting.delete(key);
    waiting.timer.cancel();
    switch (ack.verdict) {
      case OutputVerdict.OUTPUT_VERDICT_STORED:
        return waiting.resolve({ kind: 'ok' });
      case OutputVerdict.OUTPUT_VERDICT_HOLE:
        return waiting.resolve({ kind: 'hole', known: ack.known });
      case OutputVerdict.OUTPUT_VERDICT_FENCED:
        return waiting.resolve({ kind: 'fenced' });
      default:
        return waiting.reject(new Error('the control plane cannot store output now'));
    }
  }

  /** The stream is gone: nothing will be answered any more. */
  breakOff(): void {
    for (const waiting of this.#waiting.values()) {
      waiting.timer.cancel();
      waiting.reject(new Error('the stream broke'));
    }
    this.#waiting.clear();
  }
}

function keyOf({ commandId, fence, sequence }: EntryName): string {
  return `${commandId}\n${fence}\n${sequence}`;
}
