/** Runners that die or freeze, as processes of their own. Most of the time they wait, so they do it at once. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { startRedis, type TestRedis } from '../support/redis.js';
import { allGone, buildRunner, pids, startClient, startRunnerProcess, stubborn, type TestClient } from './support.js';

let redis: TestRedis;
let folder: string;
const children: ChildProcess[] = [];
beforeAll(async () => {
  buildRunner();
  redis = await startRedis();
  folder = await mkdtemp(join(tmpdir(), 'carrierarr-test-'));
}, 60_000);
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await redis.stop();
  await rm(folder, { recursive: true, force: true });
});

async function start(client: TestClient, ...flags: string[]): Promise<ChildProcess> {
  const child = await startRunnerProcess(redis, client, flags);
  children.push(child);
  return child;
}

describe.concurrent('the watchdog', () => {
  it('ends every descendant of a script when the runner is killed', async () => {
    const client = startClient(redis);
    const runner = await start(client);
    const { all } = await stubborn(client, 'w');
    runner.kill('SIGKILL');
    await expect(allGone(all, 5000)).resolves.toBeUndefined();
  });

  it('ends every descendant of a script when the runner is frozen; awake again, it reports so', async () => {
    const client = startClient(redis);
    const runner = await start(client);
    const { id, all } = await stubborn(client, 'w');
    runner.kill('SIGSTOP');
    await allGone(all, 9000);
    runner.kill('SIGCONT');
    expect(await client.ended(id)).toMatchObject({
      outcome: 'killed',
      exit_code: 137,
      reason: expect.stringContaining('stalled'),
    });
  }, 30_000);

  it('cannot be escaped by a script that kills its group or its parent', async () => {
    const client = startClient(redis);
    await start(client);
    const id = await client.submit('w', 'orphan');
    const all = pids(await client.line('w', /pids/));
    // Its watchdog is gone: the runner does not leave the script alone.
    expect(await client.ended(id)).toMatchObject({ outcome: 'failed', exit_code: 137 });
    await allGone(all, 5000);
  });
});

describe.concurrent('a dead runner', () => {
  it('loses its command within fifteen seconds; the next one runs elsewhere, once, after the old one must be over', async () => {
    const client = startClient(redis);
    const trace = join(folder, client.prefix);
    const flags = ['--redis-outage-grace', '5s'];
    const dying = await start(client, '--runner-id', 'dying', ...flags);
    const first = await client.submit('w', 'trace', ['1', trace, '1000']);
    await client.started(first);
    const second = await client.submit('w', 'trace', ['2', trace]);
    await start(client, '--runner-id', 'living', ...flags);
    await vi.waitFor(async () => expect(await readFile(trace, 'utf8')).toBe('start 1\n'));
    dying.kill('SIGKILL');
    const begin = performance.now();
    expect(await client.ended(first)).toMatchObject({ outcome: 'lost', exit_code: -1 });
    expect(performance.now() - begin).toBeLessThan(15_000);
    expect(await client.ended(second, 60_000)).toMatchObject({ outcome: 'succeeded', runner: 'living' });
    expect(await readFile(trace, 'utf8')).toBe('start 1\nstart 2\nend 2\n');
    const { events } = await client.output('w');
    expect(events.map((event) => event.type)).toEqual(['started', 'error', 'result', 'started', 'result']);
  }, 90_000);

  it('that starts again with its id frees its targets at once', async () => {
    const client = startClient(redis);
    const trace = join(folder, client.prefix);
    const dying = await start(client, '--runner-id', 'stable');
    const first = await client.submit('w', 'trace', ['1', trace, '1000']);
    await vi.waitFor(async () => expect(await readFile(trace, 'utf8')).toBe('start 1\n'));
    const second = await client.submit('w', 'trace', ['2', trace]);
    dying.kill('SIGKILL');
    await once(dying, 'exit');
    await start(client, '--runner-id', 'stable');
    expect(await client.ended(first, 1000)).toMatchObject({ outcome: 'lost' });
    const begin = performance.now();
    expect(await client.ended(second, 30_000)).toMatchObject({ outcome: 'succeeded' });
    expect(performance.now() - begin).toBeLessThan(20_000);
    expect(await readFile(trace, 'utf8')).toBe('start 1\nstart 2\nend 2\n');
  }, 60_000);

  it('runs an idempotent command again, elsewhere', async () => {
    const client = startClient(redis);
    const trace = join(folder, client.prefix);
    const dying = await start(client, '--runner-id', 'dying', '--redis-outage-grace', '5s');
    // Long enough that it still runs when the other runner is there, on a busy machine too.
    const id = await client.submit('w', 'trace', ['1', trace, '5'], { idempotent: true });
    await vi.waitFor(async () => expect(await readFile(trace, 'utf8')).toBe('start 1\n'));
    await start(client, '--runner-id', 'living', '--redis-outage-grace', '5s');
    dying.kill('SIGKILL');
    expect(await client.ended(id, 60_000)).toMatchObject({ outcome: 'succeeded', attempt: 2, runner: 'living' });
    expect(await readFile(trace, 'utf8')).toBe('start 1\nstart 1\nend 1\n');
  }, 90_000);
});
