/** Runners that lose Redis, as processes of their own. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startRedis, type TestRedis } from '../support/redis.js';
import { allGone, buildRunner, pids, startClient, startRunnerProcess, stubborn, type TestClient } from './support.js';

let redis: TestRedis;
const children: ChildProcess[] = [];
beforeAll(async () => {
  buildRunner();
  redis = await startRedis({ appendOnly: true });
}, 60_000);
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await redis.stop();
});

async function start(client: TestClient, ...flags: string[]): Promise<ChildProcess> {
  const child = await startRunnerProcess(redis, client, flags);
  children.push(child);
  return child;
}

describe('an outage of Redis', () => {
  it('does not end a script; its output is held, and catches up in order', async () => {
    const client = startClient(redis);
    await start(client);
    const id = await client.submit('w', 'slowly', ['60', '0.1']);
    await client.line('w', 'o:line 5');
    await redis.kill();
    await new Promise((resolve) => AbortSignal.timeout(3000).addEventListener('abort', resolve));
    await redis.start();
    expect(await client.ended(id)).toMatchObject({ outcome: 'succeeded', lines: 60 });
    expect((await client.output('w')).lines).toEqual(Array.from({ length: 60 }, (_, i) => `o:line ${i + 1}`));
    // And the runner takes commands again.
    expect(await client.ended(await client.submit('x', 'echo', ['hi']))).toMatchObject({ outcome: 'succeeded' });
  }, 40_000);

  it('that lasts longer than its grace ends the script, which is said when Redis is back', async () => {
    const client = startClient(redis);
    await start(client, '--redis-outage-grace', '5s');
    const { id, all } = await stubborn(client, 'w');
    await redis.kill();
    await allGone(all, 15_000);
    await redis.start();
    expect(await client.ended(id)).toMatchObject({
      outcome: 'killed',
      reason: expect.stringContaining('could not reach Redis'),
    });
  }, 60_000);

  it('does not keep a runner from stopping', async () => {
    const client = startClient(redis);
    const runner = await start(client, '--shutdown-grace', '100ms', '--kill-grace', '100ms');
    const id = await client.submit('w', 'sleep', ['1000']);
    const all = pids(await client.line('w', /pids/));
    await redis.kill();
    runner.kill('SIGTERM');
    const [code] = await once(runner, 'exit');
    expect(code).toBe(0);
    await allGone(all, 1000);
    await redis.start();
    expect(await client.started(id)).toMatchObject({ state: 'running' });
  }, 60_000);
});
