/** Runners that die, freeze or lose Redis, as processes of their own. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { startRedis, type TestRedis } from '../support/redis.js';
import { buildRunner, isAlive, startClient, startRunnerProcess, type TestClient } from './support.js';

let redis: TestRedis;
let folder: string;
const children: ChildProcess[] = [];
beforeAll(async () => {
  buildRunner();
  redis = await startRedis({ appendOnly: true });
  folder = await mkdtemp(join(tmpdir(), 'carrierarr-test-'));
}, 60_000);
afterAll(async () => {
  await redis.stop();
  await rm(folder, { recursive: true, force: true });
});
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
});

async function start(client: TestClient, ...flags: string[]): Promise<ChildProcess> {
  const child = await startRunnerProcess(redis, client, flags);
  children.push(child);
  return child;
}

const pids = (line: string) => line.replace(/^\D+/, '').split(' ').map(Number);

async function stubborn(client: TestClient, target: string) {
  const id = await client.submit(target, 'stubborn');
  const all = [...pids(await client.line(target, /pids/)), ...pids(await client.line(target, /grouped/))];
  for (const pid of all) expect(await isAlive(pid)).toBe(true);
  return { id, all };
}

async function allGone(all: readonly number[], withinMs: number) {
  await vi.waitFor(
    async () => {
      for (const pid of all) expect(await isAlive(pid), `process ${pid}`).toBe(false);
    },
    { timeout: withinMs, interval: 50 },
  );
}

describe('the watchdog', () => {
  it('ends every descendant of a script when the runner is killed', async () => {
    const client = startClient(redis);
    const runner = await start(client);
    const { all } = await stubborn(client, 'w');
    runner.kill('SIGKILL');
    await allGone(all, 5000);
  });

  it('ends every descendant of a script when the runner is frozen; awake again, it reports so', async () => {
    const client = startClient(redis);
    const runner = await start(client);
    const { id, all } = await stubborn(client, 'w');
    runner.kill('SIGSTOP');
    await allGone(all, 9000);
    runner.kill('SIGCONT');
    expect(await client.ended(id)).toMatchObject({ outcome: 'killed', exit_code: 137, reason: expect.stringContaining('stalled') });
  }, 30_000);

  it('cannot be escaped by a script that kills its group or its parent', async () => {
    const client = startClient(redis);
    const runner = await start(client);
    const id = await client.submit('w', 'orphan');
    const all = pids(await client.line('w', /pids/));
    // Its watchdog is gone: the runner does not leave the script alone.
    expect(await client.ended(id)).toMatchObject({ outcome: 'failed', exit_code: 137 });
    await allGone(all, 5000);
    runner.kill('SIGKILL');
  });
});

describe('a dead runner', () => {
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
    const id = await client.submit('w', 'trace', ['1', trace, '1'], { idempotent: true });
    await vi.waitFor(async () => expect(await readFile(trace, 'utf8')).toBe('start 1\n'));
    await start(client, '--runner-id', 'living', '--redis-outage-grace', '5s');
    dying.kill('SIGKILL');
    expect(await client.ended(id, 60_000)).toMatchObject({ outcome: 'succeeded', attempt: 2, runner: 'living' });
    expect(await readFile(trace, 'utf8')).toBe('start 1\nstart 1\nend 1\n');
  }, 90_000);
});

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
  }, 40_000);

  it('that lasts longer than its grace ends the script, which is said when Redis is back', async () => {
    const client = startClient(redis);
    await start(client, '--redis-outage-grace', '5s');
    const { id, all } = await stubborn(client, 'w');
    await redis.kill();
    await allGone(all, 15_000);
    await redis.start();
    expect(await client.ended(id)).toMatchObject({ outcome: 'killed', reason: expect.stringContaining('could not reach Redis') });
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
