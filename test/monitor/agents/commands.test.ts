/** Commands on their way to agents and back: monitors in this process, a real Redis, sockets, and agents that speak the wire. */
import { status as codes } from '@grpc/grpc-js';
import { CancelReason, CommandEnd, CommandResult, OutputVerdict } from '@carrierarr/protocol/agent-control';
import { ENTRY_BYTES_MAX } from '@carrierarr/protocol';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { LOG_LINE_BYTES_MAX } from '../../../apps/monitor/src/agents/log-lines.js';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { until } from '../../support/until.js';
import { installationOf, type TestStream } from './support.js';

let redis: TestRedis;
let home: ReturnType<typeof installationOf>;
beforeAll(async () => {
  redis = await startRedis();
});
beforeEach(() => {
  home = installationOf(redis);
});
afterEach(() => home.stop());
afterAll(() => redis.stop());

const ended = (of: { execution: string; fence: number }, result: Partial<CommandResult> = {}) => ({
  $case: 'commandResult' as const,
  value: CommandResult.fromPartial({
    ...{ commandId: of.execution, fence: of.fence, success: true, end: CommandEnd.COMMAND_END_EXITED, ...result },
  }),
});
const accepted = ({ execution, fence }: { execution: string; fence: number }) => ({
  $case: 'accepted' as const,
  value: { commandId: execution, fence },
});
const ackOf = (stream: TestStream, sequence: number) => stream.next('outputAck', (ack) => ack.sequence === sequence);

describe('a carrierarr agent', () => {
  it('gets a command at once, streams its output, and is told that its result was taken', async () => {
    const { agent, metric } = await home.monitor('m1');
    const stream = agent().stream().hello('n1');
    await home.streaming('n1');
    const request = await home.command('n1', { target: 't1', args: { cmd: 'echo hi' }, argv: ['echo', 'hi'] });
    expect(await stream.next('command', undefined, 5_000)).toMatchObject({
      ...{ commandId: request.execution, type: 6, args: { cmd: 'echo hi' }, argv: ['echo', 'hi'] },
      ...{ fence: request.fence, killGraceMs: 1_000, outageGraceMs: 60_000, outputBytesMax: 1_000_000 },
    });
    stream.say(accepted(request));
    await until('it to be accepted', async () => {
      const look = await home.mail.look(request.execution);
      return look.kind === 'under-way' && look.state === 'accepted';
    });
    stream.output(request, 1, ['a', 'b']).output(request, 2, ['c'], 2);
    expect(await ackOf(stream, 2)).toMatchObject({
      verdict: OutputVerdict.OUTPUT_VERDICT_STORED,
      fence: request.fence,
    });
    expect(await home.lines('t1')).toEqual(['o a', 'o b', 'e c']);
    stream.say(ended(request, { exitCode: 3, sequence: 2, lines: 3, signal: 'SIGTERM', error: 'why' }));
    expect(await stream.next('ack')).toEqual({ messageId: request.execution, received: true });
    expect(await home.mail.look(request.execution)).toEqual({
      kind: 'ended',
      result: {
        end: 'exited',
        exit_code: 3,
        sequence: 2,
        lines: 3,
        truncated_lines: 0,
        signal: 'SIGTERM',
        error: 'why',
      },
    });
    expect(stream.of('command')).toHaveLength(1);
    expect(await metric('results_total{kind="taken"}')).toBe(1);
    expect(await metric('output_bytes_total')).toBe(4);
  });

  it('gets what waits as soon as its stream opens, and gets it again until it has said that it has it', async () => {
    const { agent } = await home.monitor('m1');
    const request = await home.command('n1');
    const stream = agent().stream().hello('n1');
    await stream.next('command');
    stream.call.cancel();
    await stream.ended;
    const second = agent().stream().hello('n1');
    expect(await second.next('command')).toMatchObject({ commandId: request.execution });
  });

  it('is not sent a command that only a newer monitor can read; that waits, and holds up no other', async () => {
    const { agent } = await home.monitor('m1');
    const [strange, ours] = [await home.command('n1', { target: 'a' }), await home.command('n1', { target: 'b' })];
    const mail = home.keys.agentMail(strange.execution);
    const request = (await home.connection.hget(mail, 'request')) ?? '';
    await home.connection.hset(mail, 'request', JSON.stringify({ v: 2 }));
    const stream = agent().stream().hello('n1');
    await stream.next('command', ({ commandId }) => commandId === ours.execution);
    expect(await home.mail.look(strange.execution)).toMatchObject({ kind: 'under-way', state: 'waiting' });
    expect(stream.of('command')).toHaveLength(1);
    // As a monitor that can read it.
    await home.connection.hset(mail, 'request', request);
    await stream.next('command', ({ commandId }) => commandId === strange.execution);
  });

  it('is not sent again what it says that it runs', async () => {
    const { agent } = await home.monitor('m1');
    const [running, waiting] = [await home.command('n1', { target: 'a' }), await home.command('n1', { target: 'b' })];
    const stream = agent()
      .stream()
      .hello('n1', { running: [running.execution] });
    await stream.next('command', ({ commandId }) => commandId === waiting.execution);
    expect(stream.of('command').map(({ commandId }) => commandId)).toEqual([waiting.execution]);
    expect(stream.of('cancel')).toEqual([]);
  });

  it('leaves each line in the log once, in order, when its stream moves to another monitor with answers lost', async () => {
    const [m1, m2] = [await home.monitor('m1'), await home.monitor('m2')];
    const before = m1.agent().stream().hello('n1');
    await home.streaming('n1');
    const request = await home.command('n1', { target: 't1' });
    await before.next('command');
    before.say(accepted(request)).output(request, 1, ['1']).output(request, 2, ['2']);
    await ackOf(before, 2);
    const after = m2
      .agent()
      .stream()
      .hello('n1', { running: [request.execution] });
    // As if neither answer had come: the log has them, and says so.
    after.output(request, 1, ['1']).output(request, 2, ['2']).output(request, 3, ['3']);
    expect(await ackOf(after, 1)).toMatchObject({ verdict: OutputVerdict.OUTPUT_VERDICT_STORED });
    expect(await ackOf(after, 3)).toMatchObject({ verdict: OutputVerdict.OUTPUT_VERDICT_STORED });
    after.output(request, 6, ['6']);
    expect(await ackOf(after, 6)).toMatchObject({ verdict: OutputVerdict.OUTPUT_VERDICT_HOLE, known: 3 });
    expect(await home.lines('t1')).toEqual(['o 1', 'o 2', 'o 3']);
    expect(await before.ended).toMatchObject({ code: codes.ABORTED });
  });

  it('keeps the order of hundreds of entries', async () => {
    const { agent } = await home.monitor('m1');
    const stream = agent().stream().hello('n1');
    await home.streaming('n1');
    const request = await home.command('n1', { target: 't1' });
    await stream.next('command');
    for (let i = 1; i <= 300; i += 1) stream.output(request, i, [`line ${i}`]);
    await ackOf(stream, 300);
    expect(await home.lines('t1')).toEqual(Array.from({ length: 300 }, (_, i) => `o line ${i + 1}`));
    expect(stream.of('outputAck').every(({ verdict }) => verdict === OutputVerdict.OUTPUT_VERDICT_STORED)).toBe(true);
  });

  it('is told to end what is killed', async () => {
    const { agent } = await home.monitor('m1');
    const stream = agent().stream().hello('n1');
    await home.streaming('n1');
    const request = await home.command('n1');
    await stream.next('command');
    stream.say(accepted(request));
    await home.mail.kill(request.execution);
    expect(await stream.next('cancel', undefined, 5_000)).toEqual({
      ...{ commandId: request.execution, fence: request.fence, reason: CancelReason.CANCEL_REASON_KILL },
    });
    stream.say(ended(request, { end: CommandEnd.COMMAND_END_CANCELLED, signal: 'SIGTERM' }));
    await stream.next('ack');
    expect(await home.mail.look(request.execution)).toMatchObject({ kind: 'ended', result: { end: 'cancelled' } });
  });

  it('never gets what was killed before it could be sent', async () => {
    const { agent } = await home.monitor('m1');
    const request = await home.command('n1');
    await home.mail.kill(request.execution);
    const stream = agent().stream().hello('n1');
    await until('its end', async () => (await home.mail.look(request.execution)).kind === 'ended');
    expect(await home.mail.look(request.execution)).toMatchObject({ result: { end: 'cancelled' } });
    expect(stream.of('command')).toEqual([]);
  });

  it('is told to end what has lost its runner; its output is refused, and nobody waits any more', async () => {
    const { agent, metric } = await home.monitor('m1');
    const stream = agent().stream().hello('n1');
    await home.streaming('n1');
    const request = await home.command('n1', { target: 't1' });
    await stream.next('command');
    stream.say(accepted(request)).output(request, 1, ['seen']);
    await ackOf(stream, 1);
    const lease = await home.store.lease('t1');
    expect(lease && (await home.store.reap(lease, 1_000, { anyBeat: true }))).toBe('lost');
    stream.output(request, 2, ['refused']);
    expect(await ackOf(stream, 2)).toMatchObject({ verdict: OutputVerdict.OUTPUT_VERDICT_FENCED });
    expect(await stream.next('cancel')).toMatchObject({
      ...{ commandId: request.execution, fence: request.fence, reason: CancelReason.CANCEL_REASON_FENCED },
    });
    await until('the mail to go', async () => (await home.mail.look(request.execution)).kind === 'gone');
    expect(await metric('mail_dropped_total')).toBe(1);
    stream.say(ended(request, { exitCode: 7 }));
    await stream.next('ack');
    expect((await home.lines('t1')).at(0)).toBe('o seen');
    expect((await home.lines('t1')).at(-1)).toMatch(
      /^l The agent told the end of execution .* held for lost: exit code 7\.$/,
    );
    expect(await metric('results_total{kind="late"}')).toBe(1);
    // As if the acknowledgement had been lost on its way.
    const again = agent().stream().hello('n1');
    again.say(ended(request, { exitCode: 7 }));
    await again.next('ack');
    expect((await home.lines('t1')).filter((line) => line.includes('told the end'))).toHaveLength(1);
    expect(await metric('results_total{kind="repeated"}')).toBe(1);
  });

  it('is told to end what nobody knows of', async () => {
    const { agent } = await home.monitor('m1');
    const stream = agent()
      .stream()
      .hello('n1', { running: ['01jzzzzzzzzzzzzzzzzzzzzzzz-00'] });
    expect(await stream.next('cancel')).toEqual({
      ...{ commandId: '01jzzzzzzzzzzzzzzzzzzzzzzz-00', fence: 0, reason: CancelReason.CANCEL_REASON_FENCED },
    });
  });

  it('cannot write to the log of a command of another node, nor end it', async () => {
    const { agent, metric } = await home.monitor('m1');
    const [owner, thief] = [agent().stream().hello('n1'), agent().stream().hello('n2')];
    await home.streaming('n1');
    await home.streaming('n2');
    const request = await home.command('n1', { target: 't1' });
    await owner.next('command');
    thief.output(request, 1, ['mine']).say(ended(request, { exitCode: 0 }));
    expect(await ackOf(thief, 1)).toMatchObject({ verdict: OutputVerdict.OUTPUT_VERDICT_FENCED });
    await thief.next('ack');
    expect(await home.lines('t1')).toEqual([]);
    expect(await home.mail.look(request.execution)).toMatchObject({ kind: 'under-way' });
    expect(await metric('results_total{kind="foreign"}')).toBe(1);
    expect(await metric('refused_total{reason="foreign"}')).toBe(2);
  });

  it.each([
    [
      'lines that are not as many as its runs say',
      { runs: [{ stream: 1, lines: 3 }] },
      /expected 3 lines as the runs say, got 1/,
    ],
    ['bytes that are no text', { body: Buffer.from([0xff, 0xfe]) }, /in UTF-8/],
    ['a stream that there is none of', { runs: [{ stream: 9, lines: 1 }] }, /stdout, stderr or log/],
    ['no runs', { runs: [] }, /1 to 10000 runs/],
    ['more than an entry holds', { body: Buffer.alloc(65_537, 'x') }, /at most 65536 bytes of output, got 65537/],
    ['a sequence of 0', { sequence: 0 }, /sequence from 1/],
  ])('loses its stream for output with %s', async (_, wrong, why) => {
    const { agent } = await home.monitor('m1');
    const stream = agent().stream().hello('n1');
    await home.streaming('n1');
    const { execution, fence } = await home.command('n1', { target: 't1' });
    await stream.next('command');
    const right = { commandId: execution, fence, sequence: 1, timeMs: 1, runs: [{ stream: 1, lines: 1 }] };
    stream.say({ $case: 'output', value: { ...right, body: Buffer.from('x'), ...wrong } });
    const end = await stream.ended;
    expect(end).toMatchObject({ code: codes.INVALID_ARGUMENT });
    expect(end.details).toMatch(why);
    expect(await home.lines('t1')).toEqual([]);
  });

  it('is within reach as long as its stream is open, and only then', async () => {
    const { agent } = await home.monitor('m1');
    const [gone, there] = [agent().stream().hello('n1'), agent().stream().hello('n2')];
    await home.streaming('n1');
    await home.streaming('n2');
    const [first, second] = [await home.command('n1'), await home.command('n2')];
    await gone.next('command');
    await there.next('command');
    const contactOf = async ({ execution }: { execution: string }) =>
      Number(await home.connection.hget(home.keys.agentMail(execution), 'contact'));
    const before = await contactOf(first);
    await until('a note', async () => (await contactOf(first)) > before);
    gone.call.cancel();
    await until('the end to be known', async () => (await home.node('n1'))?.stream === undefined);
    // A sweep that had begun may still note it; the one after does not.
    const noted = async () => {
      const last = await contactOf(second);
      await until('a note of the other', async () => (await contactOf(second)) > last);
    };
    await noted();
    const last = await contactOf(first);
    await noted();
    expect(await contactOf(first)).toBe(last);
  });

  it('finds its commands under its instance id when it had only a host name before', async () => {
    const { agent } = await home.monitor('m1');
    const connection = agent();
    const stream = connection.stream().hello('host-a');
    await home.streaming('host-a');
    await connection.register({ nodeId: 'host-a', instanceId: 'i-1' });
    const request = await home.command('i-1', { target: 't1' });
    stream.status('host-a');
    await stream.next('command', ({ commandId }) => commandId === request.execution);
    stream.say(ended(request));
    await stream.next('ack');
    expect(await home.mail.look(request.execution)).toMatchObject({ kind: 'ended' });
  });
});

describe('an agent in use today', () => {
  it('gets a command once, also over a new stream, and its result comes with its output', async () => {
    const { agent } = await home.monitor('m1');
    const stream = agent().stream().status('n1');
    await home.streaming('n1');
    const request = await home.command('n1');
    expect(await stream.next('command')).toMatchObject({ commandId: request.execution, args: { cmd: 'true' } });
    stream.call.cancel();
    await stream.ended;
    const second = agent().stream().status('n1');
    await home.streaming('n1');
    const other = await home.command('n1', { target: 'other' });
    await second.next('command', ({ commandId }) => commandId === other.execution);
    second.say({
      $case: 'commandResult',
      value: CommandResult.fromPartial({
        ...{
          commandId: request.execution,
          success: false,
          exitCode: 2,
          stdout: 'out\n',
          stderr: 'err\n',
          error: 'exit 2',
        },
      }),
    });
    expect(await second.next('ack')).toEqual({ messageId: request.execution, received: true });
    expect(await home.mail.look(request.execution)).toMatchObject({
      kind: 'ended',
      result: { end: 'exited', exit_code: 2, success: false, stdout: 'out\n', stderr: 'err\n', error: 'exit 2' },
    });
    expect(second.of('command')).toHaveLength(1);
  });

  it('is not told to end a command, nor anything else that it cannot know', async () => {
    const { agent } = await home.monitor('m1');
    const stream = agent().stream().status('n1');
    await home.streaming('n1');
    const request = await home.command('n1');
    await stream.next('command');
    await home.mail.kill(request.execution);
    const other = await home.command('n1', { target: 'other' });
    await stream.next('command', ({ commandId }) => commandId === other.execution);
    expect(stream.received.map(({ $case }) => $case)).toEqual(['command', 'command']);
  });

  it('has what it logs shown on its target, cut into lines, and too much of it dropped', async () => {
    const { agent, metric } = await home.monitor('m1', ['--agent-log-lines-per-second', '1']);
    const stream = agent().stream().status('n1');
    await home.streaming('n1');
    const log = (message: string) =>
      stream.say({
        $case: 'log',
        value: { timestamp: undefined, level: 3, message, source: 'ollama', fields: { model: 'x' } },
      });
    log('one\ntwo');
    await until('its lines', async () => (await home.lines('n1')).length === 2);
    expect(await home.lines('n1')).toEqual(['l WARN ollama: one', 'l two model=x']);
    for (let i = 0; i < 10; i += 1) log(`more ${i}`);
    await until('some to be dropped', async () => (await metric('log_lines_dropped_total')) > 0);
    expect((await home.lines('n1')).length).toBeLessThan(12);
  });
});

describe('a long message that an agent logs', () => {
  it('is in several entries of its target, none larger than an entry may be', async () => {
    const { agent } = await home.monitor('m1');
    const stream = agent().stream().status('n1');
    await home.streaming('n1');
    const message = 'x'.repeat(200_000);
    stream.say({ $case: 'log', value: { timestamp: undefined, level: 2, message, source: '', fields: {} } });
    const lines = await until('its lines', async () => {
      const found = await home.lines('n1');
      return found.length === Math.ceil(200_006 / LOG_LINE_BYTES_MAX) ? found : undefined;
    });
    expect(lines.map((line) => line.slice(2)).join('')).toBe(`INFO: ${message}`);
    const { entries } = await home.log.read('n1', 0, 10_000);
    expect(entries).toHaveLength(4);
    for (const { entry } of entries)
      expect(entry.kind === 'lines' && entry.body.length).toSatisfy((bytes: number) => bytes <= ENTRY_BYTES_MAX);
  });
});

describe('while Redis is frozen', () => {
  it('streams stay, output is to be sent again, and a result is kept until it can be written', async () => {
    const own = await startRedis();
    const there = installationOf(own);
    try {
      const { agent } = await there.monitor('m1');
      const [ours, old] = [agent().stream().hello('n1'), agent().stream().status('n2')];
      await there.streaming('n1');
      await there.streaming('n2');
      const request = await there.command('n1', { target: 't1' });
      const told = await there.command('n2', { target: 't2' });
      await ours.next('command');
      await old.next('command');
      own.freeze();
      ours.output(request, 1, ['kept']);
      old.say({
        $case: 'commandResult',
        value: CommandResult.fromPartial({ commandId: told.execution, success: true, exitCode: 0 }),
      });
      expect(await ours.next('outputAck', undefined, 15_000)).toMatchObject({
        verdict: OutputVerdict.OUTPUT_VERDICT_UNAVAILABLE,
      });
      expect(old.of('ack')).toEqual([]);
      own.thaw();
      await old.next('ack', undefined, 15_000);
      expect(await there.mail.look(told.execution)).toMatchObject({ kind: 'ended' });
      // The first may have got there all the same: then this is a repetition.
      ours.output(request, 1, ['kept']);
      await ours.next('outputAck', ({ verdict }) => verdict === OutputVerdict.OUTPUT_VERDICT_STORED);
      expect(await there.lines('t1')).toEqual(['o kept']);
    } finally {
      own.thaw();
      await there.stop();
      await own.stop();
    }
  }, 60_000);
});
