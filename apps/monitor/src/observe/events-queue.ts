/**
 * An accelerator: a queue (SQS) into which EventBridge puts what happens to instances and tasks. Each event makes its
 * source poll soon, and announced interruptions are remembered. Without the queue, or with events lost, doubled or
 * invented, everything is as true as before, only later: polls are the truth.
 */
import { DeleteMessageBatchCommand, type Message, ReceiveMessageCommand, type SQSClient } from '@aws-sdk/client-sqs';
import { backoffMs, type Clock, type Logger, type Timer } from '@carrierarr/platform';
import type { Interruption } from '@carrierarr/protocol';
import { type AwsEvent, parseAwsEvent } from './aws-events.js';
import { type AwsCallContext, budgeted, explainAwsError, type Tally } from './aws-call.js';
import type { ObserveMetrics } from './metrics.js';

/** How long SQS holds a question without answer, s; its maximum. */
export const RECEIVE_WAIT_SECONDS = 20;
/** Most messages of one call; SQS' maximum. */
const MESSAGES_PER_CALL_MAX = 10;
/** Between two tries after an error: first and longest bound, ms. */
const BACKOFF = { baseMs: 1_000, capMs: 60_000 };

export interface EventsQueueOptions extends AwsCallContext {
  readonly client: SQSClient;
  readonly region: string;
  readonly queueUrl: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Pick<ObserveMetrics, 'apiCalls' | 'apiWait' | 'queueEvents'>;
  /** Something happened at this source: it should poll soon. */
  readonly onNudge: (source: string) => void;
  readonly onInterruption: (instanceId: string, interruption: Interruption) => void;
  /** Less in tests, s. */
  readonly waitSeconds?: number;
}

export class EventsQueue {
  readonly #options: EventsQueueOptions;
  /** Of the call under way. */
  #current: AbortController | undefined;
  #isStopped = false;
  #loop: Promise<void> | undefined;
  #wake: (() => void) | undefined;

  constructor(options: EventsQueueOptions) {
    this.#options = options;
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  /** Messages that were received and not deleted come again later, to whoever reads then. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#current?.abort(new Error('The events queue is not read any more.'));
    this.#wake?.();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { logger, queueUrl } = this.#options;
    let failures = 0;
    while (!this.#isStopped) {
      try {
        await this.#turn();
        failures = 0;
      } catch (error) {
        if (this.#isStopped) return;
        if (failures === 0) logger.warn({ err: error, url: queueUrl }, 'the events queue cannot be read; polls go on');
        await this.#pause(backoffMs({ ...BACKOFF, attempt: failures }));
        failures += 1;
      }
    }
  }

  /** Waits for messages, acts on them, deletes them. */
  async #turn(): Promise<void> {
    const { client, queueUrl, region, waitSeconds = RECEIVE_WAIT_SECONDS } = this.#options;
    this.#current = new AbortController();
    const { signal } = this.#current;
    const tally: Tally = { service: 'sqs', region, signal, calls: 0 };
    const receive = new ReceiveMessageCommand({
      QueueUrl: queueUrl,
      MaxNumberOfMessages: MESSAGES_PER_CALL_MAX,
      WaitTimeSeconds: waitSeconds,
    });
    const { Messages = [] } = await explained('ReceiveMessage', tally, () =>
      client.send(budgeted(receive, 'ReceiveMessage', tally, this.#options), { abortSignal: signal }),
    );
    if (Messages.length === 0) return;
    this.#act(Messages);
    const remove = new DeleteMessageBatchCommand({
      QueueUrl: queueUrl,
      Entries: Messages.flatMap(({ ReceiptHandle }, index) =>
        ReceiptHandle === undefined ? [] : [{ Id: String(index), ReceiptHandle }],
      ),
    });
    // Those that could not be deleted come again, which only makes a source look once more.
    await explained('DeleteMessageBatch', tally, () =>
      client.send(budgeted(remove, 'DeleteMessageBatch', tally, this.#options), { abortSignal: signal }),
    );
  }

  #act(messages: readonly Message[]): void {
    const { metrics, onInterruption, onNudge } = this.#options;
    const events = messages.map(({ Body = '' }) => parseAwsEvent(Body));
    for (const event of events) metrics.queueEvents.inc({ kind: event?.kind ?? 'malformed' });
    const known = events.filter((event): event is AwsEvent => event !== undefined);
    // First what is known, then the polls that show it.
    for (const { interruption } of known) {
      if (interruption) onInterruption(interruption.instanceId, interruption.interruption);
    }
    for (const source of new Set(known.flatMap(({ source: name }) => name ?? []))) onNudge(source);
  }

  async #pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer: Timer = this.#options.clock.setTimeout(resolve, ms);
      this.#wake = () => {
        timer.cancel();
        resolve();
      };
    });
  }
}

async function explained<T>(operation: string, tally: Tally, send: () => Promise<T>): Promise<T> {
  try {
    return await send();
  } catch (error) {
    throw explainAwsError(error, operation, tally);
  }
}

/** The region of a queue's address (`https://sqs.REGION.amazonaws.com/ACCOUNT/NAME`); undefined for another host. */
export function queueRegion(queueUrl: string): string | undefined {
  return /^sqs\.([a-z0-9-]+)\.amazonaws\.com/.exec(new URL(queueUrl).hostname)?.[1];
}
