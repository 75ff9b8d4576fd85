import { Duplex } from 'node:stream';
import { FakeClock } from '@carrierarr/platform';
import { status as codes } from '@grpc/grpc-js';
import { expect, it } from 'vitest';
import { type AgentCall, AgentStream, STALLED_MS_MAX } from '../../../apps/monitor/src/agents/agent-stream.js';

/** The stream of an agent that takes what is written to it when `read` is called. */
function streamOfSlowReader() {
  const clock = new FakeClock();
  const taken: (() => void)[] = [];
  const refusals: string[] = [];
  const ends: unknown[] = [];
  const duplex = new Duplex({
    ...{ objectMode: true, writableHighWaterMark: 1, read: () => undefined },
    write: (_message, _encoding, done) => void taken.push(done),
  });
  const call = Object.assign(duplex, { getPeer: () => '127.0.0.1:1' }) as unknown as AgentCall;
  const stream = new AgentStream({
    ...{ call, clock, limits: { messagesPerSecond: 10, bytesPerSecond: 1_000_000 } },
    handle: () => Promise.resolve(),
    onClosed: () => undefined,
    onRefused: (reason) => refusals.push(reason),
  });
  stream.identity = { key: 'a', name: 'a', fence: 1, streamsCommands: true };
  call.on('error', (error: unknown) => ends.push(error));
  const send = () => stream.send({ $case: 'ack', value: { messageId: 'm', received: true } });
  const read = async () => {
    for (const done of taken.splice(0)) done();
    await new Promise((resolve) => void setImmediate(resolve));
  };
  return { clock, stream, send, read, refusals, ends };
}

it('an agent that reads nothing for too long loses its stream, and is told why', () => {
  const { clock, stream, send, refusals, ends } = streamOfSlowReader();
  expect(send()).toBe(true);
  expect(stream.isBackedUp).toBe(true);
  clock.advance(STALLED_MS_MAX - 1);
  // That more is written meanwhile is no sign of life.
  send();
  expect(stream.isClosed).toBe(false);
  clock.advance(1);
  expect(stream.isClosed).toBe(true);
  expect(refusals).toEqual(['slow']);
  expect(ends).toMatchObject([
    { code: codes.RESOURCE_EXHAUSTED, details: expect.stringContaining('for 30 s') as string },
  ]);
  expect(clock.pendingTimers).toBe(0);
});

it('one that reads in time keeps it, and has all that time again', async () => {
  const { clock, stream, send, read, refusals } = streamOfSlowReader();
  send();
  clock.advance(STALLED_MS_MAX - 1);
  await read();
  expect(stream.isBackedUp).toBe(false);
  send();
  clock.advance(STALLED_MS_MAX - 1);
  expect(stream.isClosed).toBe(false);
  clock.advance(1);
  expect(refusals).toEqual(['slow']);
});
