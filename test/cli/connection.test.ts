import { Connection, type ConnectionOptions, GatewayFailure, type Hole, Resume, type Start } from '@carrierarr/cli';
import { FakeClock } from '@carrierarr/platform';
import type { Execution, ServerMessage } from '@carrierarr/protocol';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeGateway } from './fake-gateway.js';

let gateway: FakeGateway;
let open: Connection[];
const execution = { id: 'x1', target: 'w1' } as Execution;

beforeEach(async () => {
  gateway = await new FakeGateway().start();
  open = [];
});
afterEach(async () => {
  for (const each of open) each.close();
  await gateway.stop();
});

function connect({
  target = 'w1',
  start = { kind: 'live' },
  ...options
}: Partial<ConnectionOptions> & { target?: string; start?: Start } = {}) {
  const lines: string[] = [];
  const messages: ServerMessage[] = [];
  const holes: Hole[] = [];
  const notices: string[] = [];
  const connection = new Connection({
    access: { url: gateway.url, token: null },
    resume: new Resume(target, start),
    onMessage: (message) => {
      messages.push(message);
      if (message.type === 'lines') lines.push(...message.lines);
    },
    onHole: (hole) => holes.push(hole),
    onNotice: (text) => notices.push(text),
    random: () => 0,
    ...options,
  });
  open.push(connection);
  return { connection, lines, messages, holes, notices };
}

describe('a connection to a gateway', () => {
  it('hears nothing but what it subscribed to', async () => {
    const { connection, messages } = connect();
    await connection.start();
    gateway.lines(execution, 'stdout', ['a']);
    await vi.waitFor(() => expect(messages).toHaveLength(1));
    expect(messages[0]).toMatchObject({ type: 'lines', target: 'w1', lines: ['a'] });
  });

  it('misses and doubles nothing when it is cut in mid-stream', async () => {
    const { connection, lines, holes, notices } = connect();
    await connection.start();
    const sent: string[] = [];
    for (let round = 0; round < 20; round++) {
      const batch = [`${round}a`, `${round}b`, `${round}c`];
      sent.push(...batch);
      // Some are written while nobody is connected, some are lost on the way.
      gateway.lines(execution, round % 2 === 0 ? 'stdout' : 'stderr', batch, { deliver: round % 3 !== 0 });
      if (round % 3 === 0 || round % 5 === 0) gateway.drop();
      await vi.waitUntil(() => round % 2 === 1 || lines.length === sent.length);
    }
    gateway.drop();
    await vi.waitFor(() => expect(lines).toEqual(sent));
    expect(holes).toEqual([]);
    expect(notices[0]).toMatch(/Connecting again/);
    expect(notices.at(-1)).toMatch(/Connected to .* again/);
  });

  it('comes back when the gateway restarts, however long its port is closed', async () => {
    const { connection, lines } = connect();
    await connection.start();
    await gateway.stop();
    gateway.lines(execution, 'stdout', ['while away']);
    await gateway.start();
    await vi.waitFor(() => expect(lines).toEqual(['while away']));
  });

  it('moves when it is asked to, after the delay, and says nothing about it', async () => {
    const clock = new FakeClock();
    const { connection, lines, notices } = connect({ clock });
    await connection.start();
    gateway.broadcast({ type: 'migrate', delay_ms: 700, deadline_ms: 5000 });
    // The heartbeat is one timer, the move another.
    await vi.waitFor(() => expect(clock.pendingTimers).toBe(2));
    gateway.lines(execution, 'stdout', ['before']);
    await vi.waitFor(() => expect(lines).toEqual(['before']));
    expect(gateway.connections).toBe(1);
    clock.advance(700);
    gateway.lines(execution, 'stdout', ['after'], { deliver: false });
    await vi.waitFor(() => expect(lines).toEqual(['before', 'after']));
    expect(gateway.connections).toBe(2);
    expect(notices).toEqual([]);
  });

  it('sends a command that was not answered again, with the same id', async () => {
    gateway.onSubmit = () => gateway.received.filter(({ type }) => type === 'command').length < 3;
    const { connection, messages } = connect();
    await connection.start();
    connection.submit({ type: 'command', target: 'w1', command: 'start', id: 'mine' });
    for (const count of [1, 2]) {
      await vi.waitFor(() => expect(gateway.received.filter(({ type }) => type === 'command')).toHaveLength(count));
      gateway.drop();
    }
    await vi.waitFor(() => expect(messages).toContainEqual(expect.objectContaining({ type: 'accepted', id: 'mine' })));
    connection.answered('mine');
    gateway.drop();
    await vi.waitFor(() => expect(gateway.connections).toBe(4));
    expect(gateway.received.filter(({ type }) => type === 'command')).toHaveLength(3);
  });

  it('says that the token is wrong, once, instead of trying for ever', async () => {
    gateway.token = 'right';
    const { connection } = connect({ access: { url: gateway.url, token: 'wrong' } });
    await expect(connection.start()).rejects.toThrow(/refused the token: No valid token.*--token-file/);
    expect(gateway.connections).toBe(1);
    const known = connect({ access: { url: gateway.url, token: 'right' } });
    await known.connection.start();
  });

  it('asks for a token when the gateway lets it in to present one', async () => {
    gateway.beforeSubscribe = () => {
      gateway.broadcast({ type: 'error', code: 'unauthenticated', error: 'Expected {"type":"authenticate"}' });
      gateway.close(4401);
      return true;
    };
    const { connection } = connect();
    await expect(connection.start()).rejects.toThrow(/wants a token. Give one with --token-file/);
    expect(gateway.connections).toBe(1);
  });

  it('takes replayed lines that come before the subscription is confirmed', async () => {
    gateway.lines(execution, 'stdout', ['early']);
    gateway.lines({ id: 'x2', target: 'w2' }, 'stdout', ['not asked for']);
    gateway.isConfirmationLate = true;
    const { connection, lines } = connect({ target: 'w1*', start: { kind: 'tail', lines: 10 } });
    await connection.start();
    await vi.waitFor(() => expect(lines).toEqual(['early']));
  });

  it('ends when its token is revoked while it is connected', async () => {
    const { connection } = connect();
    await connection.start();
    gateway.close(4401, 'token revoked');
    await expect(connection.failed).rejects.toThrow(/refused|wants a token/);
  });

  it('says at once that nothing listens, before it ever was connected', async () => {
    await gateway.stop();
    const { connection } = connect();
    await expect(connection.start()).rejects.toThrow(
      /Cannot reach a gateway at http:.*nothing listens there.*carrierarr up/,
    );
  });

  it('tries again when a gateway is full', async () => {
    gateway.refuseWith = 'too_many_connections';
    const { connection, notices } = connect();
    const started = connection.start();
    await vi.waitFor(() => expect(gateway.connections).toBeGreaterThan(2));
    gateway.refuseWith = null;
    await started;
    expect(notices).toHaveLength(2);
  });

  it('gives up after the time it was given', async () => {
    const clock = new FakeClock();
    const { connection } = connect({ clock, giveUpAfterMs: 60_000, random: () => 0.5 });
    await connection.start();
    await gateway.stop();
    const failure = vi.fn<(error: unknown) => void>();
    connection.failed.catch(failure);
    await vi.waitFor(() => {
      clock.advance(5000);
      expect(failure).toHaveBeenCalledWith(expect.any(GatewayFailure));
    });
    expect(clock.monotonicMs()).toBeGreaterThanOrEqual(60_000);
  });

  it('leaves a gateway that does not answer any more', async () => {
    const clock = new FakeClock();
    const { connection } = connect({ clock });
    await connection.start();
    gateway.mute = true;
    await vi.waitFor(() => {
      clock.advance(20_000);
      expect(gateway.connections).toBe(2);
    });
  });

  it('says so once when it cannot read a message, and goes on', async () => {
    const { connection, lines, notices } = connect();
    await connection.start();
    for (let count = 0; count < 2; count++) gateway.raw('{"type":"migrate","delay_ms":0.5}');
    gateway.raw('{"type":"of a later version"}\n\nnot JSON');
    gateway.lines(execution, 'stdout', ['a']);
    await vi.waitFor(() => expect(lines).toEqual(['a']));
    expect(notices).toEqual([expect.stringContaining('sent a `migrate` message that this version cannot read')]);
  });

  it('passes on gaps, notices and a log that begins anew', async () => {
    const { connection, messages } = connect();
    await connection.start();
    gateway.lines(execution, 'stdout', ['1', '2', '3']);
    await vi.waitFor(() => expect(messages).toHaveLength(1));
    gateway.loseLog('w1');
    gateway.lines(execution, 'stdout', ['new'], { deliver: false });
    gateway.drop();
    await vi.waitFor(() => expect(messages).toHaveLength(3));
    expect(messages[1]).toMatchObject({ type: 'gap', reason: 'epoch' });
    gateway.broadcast({ type: 'degraded', reason: 'Redis is away' });
    await vi.waitFor(() => expect(messages.at(-1)).toMatchObject({ type: 'degraded' }));
  });
});
