/** What is done about one dead node, over time. That rows, leaders and the queue play along is in nodes-term.test.ts. */
import { FakeClock } from '@carrierarr/platform';
import { Keys, type NodeRecord, type WorkerRecord } from '@carrierarr/protocol';
import type { ExecutionProgress, FencedSubmitAnswer, Submission } from '@carrierarr/store';
import { beforeEach, expect, it } from 'vitest';
import { DeadNodes } from '../../../apps/monitor/src/agents/nodes/dead-nodes.js';
import type { Death } from '../../../apps/monitor/src/agents/nodes/plan.js';

const death = (isStreaming: boolean): Death => ({
  node: { key: 'i-1', name: 'host-1', seenMs: { grpc: 1 } } satisfies NodeRecord,
  ...{ target: 'w1', isStreaming, seenMs: 1, worker },
});

const nothing = () => undefined;

let clock: FakeClock;
/** Its machine as a cloud shows it, and when the last look at it began. */
let worker: WorkerRecord | undefined;
let lookedAtMs: number | undefined;
let isRunning: boolean;
/** What the target has, by id. */
let machines: string[];
let warned: string[];
let noted: Map<string, string>;
let given: Submission[];
let told: string[];
let progress: ExecutionProgress | undefined;
let answer: (submission: Submission) => FencedSubmitAnswer;

beforeEach(() => {
  clock = new FakeClock();
  [worker, lookedAtMs, isRunning] = [undefined, undefined, true];
  [machines, warned] = [[], []];
  noted = new Map();
  given = [];
  told = [];
  progress = { state: 'queued' };
  answer = () => ({ kind: 'accepted', execution: `x${given.length}`, position: 0, duplicate: false });
});

/** A leader; what was noted stays from one to the next. */
function leader() {
  const dead = new DeadNodes({
    connection: {
      get: async (key: string) => noted.get(key) ?? null,
      set: async (key: string, value: string) => noted.set(key, value) && 'OK',
    } as never,
    keys: new Keys('test'),
    commands: {
      async submit(submission) {
        given.push(submission);
        return answer(submission);
      },
    },
    history: { progress: async () => progress },
    drain: { add: async () => undefined },
    ...{ fence: 1, monitor: 'm1', clock },
    logger: {
      debug: nothing,
      warn: (facts: unknown, text?: string) => void warned.push(`${text} ${JSON.stringify(facts)}`),
    },
    metrics: { ended: { inc: nothing } } as never,
    lookedAtMs: () => lookedAtMs,
    isRunning: () => isRunning,
    sharing: () => machines,
    onEnded: async (_death, verb, execution) => void told.push(`${verb} ${execution}`),
  });
  /** Looks each second or two, as the term does. */
  return async (isStreaming: boolean, forMs: number) => {
    for (let ms = 0; ms <= forMs; ms += 1_500) {
      await dead.end([death(isStreaming)], clock.now());
      clock.advance(1_500);
    }
  };
}
const verbs = () => given.map(({ command }) => command);
const ended = (outcome: ExecutionProgress['outcome']): ExecutionProgress => ({
  ...{ state: 'ended', ended_at: new Date(clock.now()).toISOString() },
  ...(outcome !== undefined && { outcome }),
});

it('is terminated if it has no stream, once', async () => {
  await leader()(false, 600_000);
  expect(verbs()).toEqual(['terminate']);
});

it('is not terminated while its target has another machine, which that would end, too; and is said so now and then', async () => {
  machines = ['i-1', 'i-2'];
  const look = leader();
  await look(false, 100_000);
  expect(verbs()).toEqual([]);
  expect(warned).toHaveLength(2);
  expect(warned[0]).toContain('i-2');
  // The other one is gone.
  machines = ['i-1'];
  await look(false, 600_000);
  expect(verbs()).toEqual(['terminate']);
});

it('is told to shut down if it has a stream, within a time, and left alone once it has', async () => {
  const look = leader();
  await look(true, 10_000);
  expect(given).toMatchObject([{ command: 'shutdown', executor: 'agent', node: 'i-1', timeoutMs: 60_000 }]);
  progress = ended('succeeded');
  await look(true, 600_000);
  // Noted is that it was done: its execution is forgotten before long.
  progress = undefined;
  await leader()(true, 600_000);
  expect(verbs()).toEqual(['shutdown']);
});

it('is terminated if it did not shut down and is still there a while later, also by the next leader', async () => {
  await leader()(true, 60_000);
  const next = leader();
  progress = ended('lost');
  await next(true, 80_000);
  // It may have gone off without a word: whoever watches machines has time to see that.
  expect(verbs()).toEqual(['shutdown']);
  await next(true, 30_000);
  expect(verbs()).toEqual(['shutdown', 'terminate']);
  expect(given[1]?.clientId).not.toBe(given[0]?.clientId);
  expect(given[1]).not.toHaveProperty('executor');
  await next(true, 600_000);
  await leader()(false, 600_000);
  expect(verbs()).toEqual(['shutdown', 'terminate']);
});

it('is not terminated while nobody has looked whether it went off, however long that takes', async () => {
  worker = { id: 'i-1', provider: 'ec2', state: 'running', target: 'w1', mapped_by: 'tag:Name', source: 'ec2/eu' };
  const look = leader();
  await look(true, 0);
  progress = ended('lost');
  const endedMs = clock.now();
  await look(true, 3_600_000);
  // A look that began before it can have gone off tells nothing.
  lookedAtMs = endedMs + 60_000;
  await look(true, 3_600_000);
  expect(verbs()).toEqual(['shutdown']);
  lookedAtMs = clock.now();
  await look(true, 30_000);
  expect(verbs()).toEqual(['shutdown', 'terminate']);
});

it('is not ended by what was found before a look that saw its machine off', async () => {
  worker = { id: 'i-1', provider: 'ec2', state: 'running', target: 'w1', mapped_by: 'tag:Name', source: 'ec2/eu' };
  isRunning = false;
  await leader()(false, 600_000);
  expect(verbs()).toEqual([]);
  const look = leader();
  isRunning = true;
  await look(true, 0);
  progress = ended('lost');
  clock.advance(600_000);
  [isRunning, lookedAtMs] = [false, clock.now()];
  await look(true, 600_000);
  expect(verbs()).toEqual(['shutdown']);
});

it('is terminated if nothing is known of its shutdown any more', async () => {
  const look = leader();
  await look(true, 0);
  progress = undefined;
  await look(true, 30_000);
  expect(verbs()).toEqual(['shutdown', 'terminate']);
});

it('is waited for by who finds that a predecessor had it shut down, though its stream is gone', async () => {
  answer = ({ command }) =>
    given.length === 1
      ? { kind: 'conflict', execution: 'of-predecessor' }
      : { kind: 'accepted', execution: command, position: 0, duplicate: false };
  const look = leader();
  await look(false, 60_000);
  expect(verbs()).toEqual(['terminate']);
  progress = ended('timed-out');
  await look(false, 120_000);
  expect(verbs()).toEqual(['terminate', 'terminate']);
  // What the predecessor gave, it has told.
  expect(told).toEqual(['terminate terminate']);
});

it('is tried again if the queue does not take its end', async () => {
  answer = () =>
    given.length < 3
      ? { kind: 'queue-full', length: 100 }
      : { kind: 'accepted', execution: 'x', position: 0, duplicate: false };
  await leader()(false, 60_000);
  expect(verbs()).toEqual(['terminate', 'terminate', 'terminate']);
});
