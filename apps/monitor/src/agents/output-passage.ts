/**
 * Output of agents on its way to the logs of its targets. The agent numbers it, and the log takes entry n + 1 only after
 * n; so entries of a command are sent to Redis in the order they came, some at once, and each is answered with what became
 * of it. The agent keeps what was not stored.
 */
import { type CommandOutput, OutputVerdict } from '@carrierarr/protocol/agent-control';
import type { AppendAnswer, CommandStore } from '@carrierarr/store';
import { status as codes } from '@grpc/grpc-js';
import type { AgentStream } from './agent-stream.js';
import type { MailCarrier } from './mail-carrier.js';
import { entryOf } from './messages.js';
import type { AgentMetrics } from './metrics.js';

/** Entries of one stream on their way to Redis. */
const IN_FLIGHT_MAX = 16;

export interface OutputPassageOptions {
  carrier: Pick<MailCarrier, 'requestOf'>;
  /** On a connection of its own: what keeps order must not stand in the way of anything else. */
  store: Pick<CommandStore, 'append'>;
  now: () => number;
  metrics: AgentMetrics;
}

export class OutputPassage {
  readonly #o: OutputPassageOptions;
  readonly #inFlight = new WeakMap<AgentStream, Set<Promise<void>>>();

  constructor(options: OutputPassageOptions) {
    this.#o = options;
  }

  /** Resolves when the stream may go on; its entry may still be on its way. Rejects if Redis cannot be asked. */
  async take(stream: AgentStream, output: CommandOutput): Promise<void> {
    const { carrier, store, metrics, now } = this.#o;
    metrics.outputBytes.inc(output.body.length);
    let request;
    try {
      request = await carrier.requestOf(stream, output.commandId);
    } catch {
      // Redis cannot say now. What was not stored is sent again.
      this.#answer(stream, output, OutputVerdict.OUTPUT_VERDICT_UNAVAILABLE);
      return;
    }
    if (request === undefined || request.fence !== output.fence) {
      this.#answer(stream, output, OutputVerdict.OUTPUT_VERDICT_FENCED);
      return;
    }
    const made = entryOf(output, now());
    if ('problem' in made) {
      stream.refuse(
        'invalid',
        codes.INVALID_ARGUMENT,
        `Output of ${output.commandId} cannot be read: ${made.problem}.`,
      );
      return;
    }
    const appended = store
      .append(request.target, request.fence, output.sequence, made.lines, made.entry)
      .then(verdictOf, () => ({ verdict: OutputVerdict.OUTPUT_VERDICT_UNAVAILABLE, known: 0 }))
      .then(({ verdict, known }) => this.#answer(stream, output, verdict, known));
    await this.#roomAfter(stream, appended);
  }

  async #roomAfter(stream: AgentStream, appended: Promise<void>): Promise<void> {
    const inFlight = this.#inFlight.get(stream) ?? new Set();
    this.#inFlight.set(stream, inFlight);
    inFlight.add(appended);
    void appended.finally(() => inFlight.delete(appended));
    if (inFlight.size >= IN_FLIGHT_MAX) await Promise.race(inFlight);
  }

  #answer(stream: AgentStream, { commandId, fence, sequence }: CommandOutput, verdict: OutputVerdict, known = 0): void {
    this.#o.metrics.outputAcks.inc({ verdict: nameOf(verdict) });
    stream.send({ $case: 'outputAck', value: { commandId, fence, sequence, verdict, known } });
  }
}

function verdictOf(answer: AppendAnswer): { verdict: OutputVerdict; known: number } {
  switch (answer.kind) {
    case 'ok':
    case 'repeated':
      return { verdict: OutputVerdict.OUTPUT_VERDICT_STORED, known: 0 };
    case 'hole':
      return { verdict: OutputVerdict.OUTPUT_VERDICT_HOLE, known: answer.known };
    case 'fenced':
      return { verdict: OutputVerdict.OUTPUT_VERDICT_FENCED, known: 0 };
  }
}

function nameOf(verdict: OutputVerdict): string {
  return (OutputVerdict[verdict] ?? '').replace('OUTPUT_VERDICT_', '').toLowerCase();
}
