/** Commands that agents carry out, with a test that plays the monitor which holds the node's stream. */
import { once } from 'node:events';
import type { AgentRequest, AgentResult } from '@carrierarr/protocol';
import { encodeEntry } from '@carrierarr/protocol';
import { AgentMail } from '@carrierarr/store';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { buildRunner, startClient, startRunner, startRunnerProcess } from '../support.js';

let redis: TestRedis;
beforeAll(async () => {
  buildRunner();
  redis = await startRedis();
}, 60_000);
const stops: (() => Promise<unknown>)[] = [];
afterAll(async () => {
  await Promise.all(stops.map((stop) => stop()));
  await redis.stop();
});

const NODE = 'i-1';
const EXITED = { end: 'exited', exit_code: 0, sequence: 0, lines: 0, truncated_lines: 0 } as const;

/** A runner without a script, and a monitor with the stream of one node. */
async function install(flags: string[] = []) {
  const client = startClient(redis);
  const { store, keys, connection } = client;
  const mail = new AgentMail({ connection, keys });
  const runner = await startRunner(redis, client, ['--without-script', ...flags]);
  stops.push(() => runner.stop());
  return {
    ...{ client, mail, runner },
    submit: (command: string, args: string[] = [], more = {}) =>
      client.submit('w', command, args, { executor: 'agent', node: NODE, ...more }),
    /** Sends a command once it is there, as a monitor does. */
    deliver: async (execution: string, { mayRepeat = true } = {}): Promise<AgentRequest> => {
      await vi.waitFor(async () => expect(await mail.openExecutions()).toContain(execution), 10_000);
      const answer = await mail.send(execution, 1, mayRepeat);
      if (answer.kind !== 'send') throw new Error(answer.kind);
      if (mayRepeat) await mail.accepted(execution, answer.request.fence);
      return answer.request;
    },
    answer: (request: AgentRequest, result: Partial<AgentResult>) =>
      mail.answer(request.execution, request.fence, { ...EXITED, ...result }),
    append: ({ execution, target, fence }: AgentRequest, sequence: number, text: string) => {
      const entry = { execution, sequence, timeMs: 1, runs: [{ stream: 'o' as const, lines: 1 }] };
      return store.append(
        target,
        fence,
        sequence,
        1,
        encodeEntry({ ...entry, kind: 'lines', body: Buffer.from(text) }),
      );
    },
    /** Makes the agent out of reach for longer than it was. */
    silence: async (execution: string, ms: number) => {
      await connection.hincrby(keys.agentMail(execution), 'contact', -ms);
    },
    nothingLeft: async () => expect(await connection.keys(`${client.prefix}:{nodes}:mail*`)).toEqual([]),
  };
}

// Most of the time they wait, so they do it at once.
describe.concurrent('a command for an agent', () => {
  it('is passed on with all that the agent needs, and ends as the agent says', async () => {
    const { client, submit, deliver, append, answer, nothingLeft } = await install(['--kill-grace', '3s']);
    const id = await submit('exec', ['uname', '-a'], { timeoutMs: 90_000 });
    const request = await deliver(id);
    const { fence } = await client.started(id);
    expect(request).toEqual({
      ...{ execution: id, target: 'w', fence, type: 'EXEC', argv: ['uname', '-a'], args: { cmd: 'uname -a' } },
      ...{ timeout_seconds: 90, kill_grace_ms: 3_000, outage_grace_ms: 60_000, output_bytes_max: 1 << 30 },
    });
    await append(request, 1, 'Linux');
    await append(request, 2, 'more');
    await answer(request, { exit_code: 3, sequence: 2, lines: 2, truncated_lines: 1 });
    expect(await client.ended(id)).toMatchObject({
      ...{ outcome: 'failed', exit_code: 3, lines: 2, truncated_lines: 1, executor: 'agent', node: NODE },
    });
    const { lines, events } = await client.output('w');
    expect(lines).toEqual(['o:Linux', 'o:more']);
    expect(events.map((event) => event.type)).toEqual(['started', 'error', 'result']);
    await nothingLeft();
  });

  it('is run by a runner that has no script, and needs none', async () => {
    const { client, submit, deliver, answer } = await install();
    const id = await submit('drain');
    const request = await deliver(id);
    expect(request).toMatchObject({ type: 'DRAIN', args: {} });
    await answer(request, {});
    expect(await client.ended(id)).toMatchObject({ outcome: 'succeeded', exit_code: 0 });
  });

  it('is killed on the agent, and is killed by whichever signal it took', async () => {
    const { client, mail, submit, deliver, answer, nothingLeft } = await install();
    const id = await submit('exec', ['sleep', '60']);
    const request = await deliver(id);
    await client.store.kill('w', id, 'ann');
    await vi.waitFor(async () => expect((await mail.open())[0]).toMatchObject({ isKilled: true }), 5_000);
    await answer(request, { end: 'cancelled', exit_code: -1, signal: 'SIGKILL' });
    expect(await client.ended(id)).toMatchObject({ outcome: 'killed', signal: 'SIGKILL', exit_code: 137 });
    await nothingLeft();
  });

  it('that was not sent yet is taken back when it is killed', async () => {
    const { client, mail, submit, nothingLeft } = await install();
    const id = await submit('exec', ['true']);
    await vi.waitFor(async () => expect(await mail.openExecutions()).toEqual([id]), 5_000);
    await client.store.kill('w', id, 'ann');
    expect(await client.ended(id)).toMatchObject({ outcome: 'killed' });
    expect((await mail.send(id, 1, true)).kind).toBe('gone');
    await nothingLeft();
  });

  it('that is killed is lost when the agent is there and never says what became of it', async () => {
    const { client, mail, submit, deliver, nothingLeft } = await install(['--kill-grace', '0']);
    const id = await submit('exec', ['true']);
    await deliver(id);
    const alive = setInterval(() => void mail.contact([id]), 500);
    await client.store.kill('w', id, 'ann');
    const ended = await client.ended(id).finally(() => clearInterval(alive));
    expect(ended).toMatchObject({
      outcome: 'lost',
      kill_requested_by: 'ann',
      reason: expect.stringMatching(/said nothing/),
    });
    await nothingLeft();
  });

  it('times out by the runner, and the agent is told', async () => {
    const { client, mail, submit, deliver, answer } = await install();
    const id = await submit('exec', ['sleep', '60'], { timeoutMs: 1_000 });
    const request = await deliver(id);
    expect(request.timeout_seconds).toBe(1);
    await vi.waitFor(async () => expect((await mail.open())[0]).toMatchObject({ isKilled: true }), 5_000);
    await answer(request, { end: 'cancelled', signal: 'SIGTERM', exit_code: -1 });
    expect(await client.ended(id)).toMatchObject({ outcome: 'timed-out', exit_code: 124 });
  });

  it('that the agent refuses is rejected with the words of the agent', async () => {
    const { client, submit, deliver, answer } = await install();
    const id = await submit('exec', ['rm']);
    await answer(await deliver(id), { end: 'refused', error: 'rm is not in --allow-exec' });
    expect(await client.ended(id)).toMatchObject({ outcome: 'rejected', exit_code: 126 });
    expect((await client.output('w')).events[1]).toMatchObject({
      ...{ code: 'agent_refused', error: expect.stringContaining('rm is not in --allow-exec') },
    });
  });

  it('is lost when the agent was restarted meanwhile, with what it had written before', async () => {
    const { client, submit, deliver, append, answer } = await install();
    const id = await submit('exec', ['x']);
    const request = await deliver(id);
    await append(request, 1, 'before');
    await answer(request, { end: 'lost', exit_code: -1, error: 'the agent was restarted' });
    expect(await client.ended(id)).toMatchObject({ outcome: 'lost', reason: 'the agent was restarted' });
    const { lines, events } = await client.output('w');
    expect(lines).toEqual(['o:before']);
    expect(events[1]).toMatchObject({ code: 'agent_lost' });
  });

  it('is rejected when no monitor could deliver it, and was surely not sent', async () => {
    const { client, mail, submit, silence, nothingLeft } = await install(['--agent-outage-grace', '5s']);
    const id = await submit('exec', ['true']);
    await vi.waitFor(async () => expect(await mail.openExecutions()).toEqual([id]), 5_000);
    await silence(id, 60_000);
    expect(await client.ended(id)).toMatchObject({ outcome: 'rejected', exit_code: -1 });
    expect((await client.output('w')).events[1]).toMatchObject({ code: 'node_not_connected' });
    await nothingLeft();
  });

  it('is lost when the agent that has it stays out of reach for longer than it goes on by itself', async () => {
    const { client, submit, deliver, silence } = await install(['--agent-outage-grace', '5s', '--kill-grace', '0']);
    const id = await submit('exec', ['true']);
    await deliver(id);
    await silence(id, 60_000);
    expect(await client.ended(id)).toMatchObject({
      outcome: 'lost',
      reason: expect.stringMatching(/out of reach for \d+ s/),
    });
  });

  it('with arguments that its verb cannot have is rejected', async () => {
    const { client, submit } = await install();
    const id = await submit('pull-model');
    expect(await client.ended(id)).toMatchObject({ outcome: 'rejected' });
    expect((await client.output('w')).events[1]).toMatchObject({ code: 'bad_command' });
  });

  it('goes on while Redis is away, and its result arrives after that', async () => {
    const own = await startRedis();
    const client = startClient(own);
    const runner = await startRunner(own, client, ['--without-script']);
    stops.push(async () => {
      await runner.stop();
      await own.stop();
    });
    const mail = new AgentMail(client);
    const id = await client.submit('w', 'drain', [], { executor: 'agent', node: NODE });
    await vi.waitFor(async () => expect((await mail.send(id, 1, true)).kind).toBe('send'), 5_000);
    const { fence } = await client.started(id);
    own.freeze();
    await new Promise((resolve) => AbortSignal.timeout(3_000).addEventListener('abort', resolve));
    own.thaw();
    await mail.answer(id, fence, { ...EXITED });
    expect(await client.ended(id)).toMatchObject({ outcome: 'succeeded' });
  });

  it('is lost when its runner dies; the target stays closed until an agent out of reach has ended it', async () => {
    const client = startClient(redis);
    const mail = new AgentMail(client);
    const flags = ['--without-script', '--runner-id', 'r'];
    const first = await startRunnerProcess(redis, client, flags);
    const id = await client.submit('w', 'exec', ['sleep', '60'], { executor: 'agent', node: NODE });
    await vi.waitFor(async () => expect((await mail.send(id, 1, true)).kind).toBe('send'), 10_000);
    first.kill('SIGKILL');
    await once(first, 'exit');
    const next = await startRunner(redis, client, flags);
    stops.push(() => next.stop());
    expect(await client.ended(id)).toMatchObject({ outcome: 'lost' });
    const lease = await client.store.lease('w');
    expect(lease).toMatchObject({ state: 'closed' });
    // 60 s out of reach, 10 s between SIGTERM and SIGKILL, and a margin.
    expect((lease?.closedUntilMs ?? 0) - (await client.store.redisNowMs())).toBeGreaterThan(65_000);
    // Nobody waits for it any more: its monitor has the agent end it.
    await vi.waitFor(async () => expect(await mail.openExecutions()).toEqual([]), 10_000);
    expect(await mail.answer(id, undefined, EXITED)).toBe('gone');
  }, 40_000);
});

describe.concurrent('a command for an agent of an old kind', () => {
  it('ends with the output that came with its result', async () => {
    const { client, submit, deliver, answer } = await install();
    const id = await submit('exec', ['x']);
    const request = await deliver(id, { mayRepeat: false });
    const stdout = `${Array.from({ length: 20_000 }, (_, n) => `line ${n}`).join('\n')}\n`;
    await answer(request, { exit_code: 0, success: true, stdout, stderr: 'oops' });
    expect(await client.ended(id)).toMatchObject({ outcome: 'succeeded', lines: 20_001 });
    const { lines } = await client.output('w');
    expect(lines[0]).toBe('o:line 0');
    expect(lines.slice(-2)).toEqual(['o:line 19999', 'e:oops']);
  });

  it('has failed when it says so, whatever its exit code, and its error is shown', async () => {
    const { client, submit, deliver, answer } = await install();
    const id = await submit('restart-service', ['ollama']);
    const request = await deliver(id, { mayRepeat: false });
    await answer(request, { exit_code: 0, success: false, error: 'unit not found' });
    expect(await client.ended(id)).toMatchObject({ outcome: 'failed', exit_code: 1 });
    expect((await client.output('w')).lines).toEqual(['e:unit not found']);
  });

  it('is lost when it is killed: such an agent cannot be told', async () => {
    const { client, submit, deliver, nothingLeft } = await install();
    const id = await submit('exec', ['sleep', '60']);
    await deliver(id, { mayRepeat: false });
    await client.store.kill('w', id, 'ann');
    expect(await client.ended(id)).toMatchObject({
      ...{ outcome: 'lost', kill_requested_by: 'ann', reason: expect.stringMatching(/cannot be told/) },
    });
    await nothingLeft();
  });

  it('has timed out when its result comes after the time', async () => {
    const { client, mail, submit, deliver, answer } = await install();
    const id = await submit('exec', ['sleep', '60'], { timeoutMs: 1_000 });
    const request = await deliver(id, { mayRepeat: false });
    await vi.waitFor(async () => expect((await mail.open())[0]).toMatchObject({ isKilled: true }), 5_000);
    await answer(request, { exit_code: -1, success: false, stdout: 'so far', stderr: '', error: 'timed out' });
    expect(await client.ended(id)).toMatchObject({ outcome: 'timed-out', exit_code: 124, lines: 2 });
  });
});
