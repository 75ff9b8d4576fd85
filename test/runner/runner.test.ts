import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile, chmod } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { ConfigError, createLogger, loadConfig } from '@carrierarr/platform';
import { runnerSchema, validateRunnerConfig } from '@carrierarr/runner';
import { CommandStore } from '@carrierarr/store';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { startRedis, type TestRedis } from '../support/redis.js';
import { isAlive, pids, startClient, startRunner, stubborn, type TestClient } from './support.js';

let redis: TestRedis;
let folder: string;
beforeAll(async () => {
  redis = await startRedis();
  folder = await mkdtemp(join(tmpdir(), 'carrierarr-test-'));
});
afterAll(async () => {
  await redis.stop();
  await rm(folder, { recursive: true, force: true });
});

async function withRunner<T>(
  flags: string[],
  run: (client: TestClient, runner: Awaited<ReturnType<typeof startRunner>>) => Promise<T>,
  env: NodeJS.ProcessEnv = { PATH: process.env['PATH'] },
): Promise<T> {
  const client = startClient(redis);
  const runner = await startRunner(redis, client, flags, { env });
  try {
    return await run(client, runner);
  } finally {
    await runner.stop();
  }
}

describe('a command', () => {
  it('runs, and its lines and outcome reach the log in order', async () => {
    await withRunner([], async (client, runner) => {
      const id = await client.submit('w1', 'both');
      expect(await client.ended(id)).toMatchObject({
        outcome: 'succeeded',
        exit_code: 0,
        lines: 3,
        truncated_lines: 0,
      });
      const { lines, events } = await client.output('w1');
      expect(lines.toSorted()).toEqual(['e:two', 'o:one', 'o:three']);
      expect(lines.indexOf('o:one')).toBeLessThan(lines.indexOf('o:three'));
      expect(events.map((event) => event.type)).toEqual(['started', 'result']);
      // Redis says that it has ended, then the runner counts it.
      await vi.waitFor(async () => expect(await runner.metric('executions_total', { outcome: 'succeeded' })).toBe(1));
      expect(await runner.metric('lines_total')).toBe(3);
    });
  });

  it('that is a probe leaves nothing in the log and in the lists, but its answer in its record', async () => {
    await withRunner([], async (client) => {
      const probe = { probe: true } as const;
      const id = await client.submit('w1', 'both', [], probe);
      expect(await client.ended(id)).toMatchObject({ outcome: 'succeeded', probe: true, answer: 'three', lines: 3 });
      const failing = await client.submit('w1', 'exit', ['7'], probe);
      const ended = await client.ended(failing);
      expect(ended).toMatchObject({ outcome: 'failed', exit_code: 7 });
      expect(ended).not.toHaveProperty('answer');
      expect(await client.output('w1')).toEqual({ lines: [], events: [] });
      expect((await client.records.list({ limit: 10 })).executions).toEqual([]);
      // What people ask for afterwards is as it always was.
      const after = await client.submit('w1', 'both');
      await client.ended(after);
      expect((await client.output('w1')).events.map(({ type }) => type)).toEqual(['started', 'result']);
      expect((await client.records.list({ limit: 10 })).executions.map((each) => each.id)).toEqual([after]);
    });
  });

  it('ends with the exit code of its script, or the signal that ended it', async () => {
    await withRunner([], async (client) => {
      expect(await client.ended(await client.submit('w', 'exit', ['7']))).toMatchObject({
        outcome: 'failed',
        exit_code: 7,
      });
      expect(await client.ended(await client.submit('w', 'exit', ['127']))).toMatchObject({
        outcome: 'failed',
        exit_code: 127,
      });
      expect(await client.ended(await client.submit('w', 'suicide'))).toMatchObject({
        ...{ outcome: 'failed', exit_code: 139, signal: 'SIGSEGV' },
      });
    });
  });

  it('gets its arguments untouched, whatever they hold', async () => {
    const args = [
      '$(id)',
      '`id`',
      '; rm -rf /',
      '--upload-pack=x',
      '-e',
      '@/etc/passwd',
      'a b',
      '*',
      '',
      "it's",
      '"q"',
      '\\n',
      '$HOME',
      '漢字',
    ];
    await withRunner([], async (client) => {
      await client.ended(await client.submit('w', 'echo', args));
      expect((await client.output('w')).lines).toEqual(args.map((arg) => `o:${arg}`));
      await client.ended(await client.submit('x', 'echo', ['two\nlines']));
      expect((await client.output('x')).lines).toEqual(['o:two', 'o:lines']);
      await client.ended(await client.submit('y', 'count', ['', ' ', '\n']));
      expect((await client.output('y')).lines).toEqual(['o:3']);
    });
  });

  it('gets the environment of the runner without what configures carrierarr, and facts about itself', async () => {
    const env = {
      PATH: process.env['PATH'],
      MINE: 'x',
      CARRIERARR_REDIS_PASSWORD: 'pw',
      EC2_AGENT_TARGET: 'wrong',
      CARRIERARR_TARGET: 'wrong',
    };
    await withRunner(
      [],
      async (client) => {
        const id = await client.submit('my target', 'env');
        const { fence } = await client.ended(id);
        const { lines } = await client.output('my target');
        const names = lines.map((line) => line.slice(2)).filter((line) => !/^(_|SHLVL|PWD|OLDPWD|PATH)=/.test(line));
        expect(names).toEqual([
          'CARRIERARR_ATTEMPT=1',
          `CARRIERARR_COMMAND_TOKEN=${createHash('sha256').update(id).digest('hex')}`,
          `CARRIERARR_EXECUTION_ID=${id}`,
          `CARRIERARR_FENCE=${fence}`,
          'CARRIERARR_TARGET=my target',
          'EC2_AGENT_TARGET=my target',
          'MINE=x',
        ]);
      },
      env,
    );
  });

  it('has nothing open but its output, and no input', async () => {
    await withRunner([], async (client) => {
      await client.ended(await client.submit('w', 'fds'));
      const { lines } = await client.output('w');
      const expected = new Set(['o:0', 'o:1', 'o:2', 'o:255', 'o:/dev/null']);
      // Bash keeps its script at 255. What else is there was inherited by the test itself.
      const own = lines.filter((line) => !expected.has(line)).map((line) => Number(line.slice(2)));
      expect(own.filter((fd) => fd < 100)).toEqual([]);
      expect(lines.at(-1)).toBe('o:/dev/null');
    });
  });

  it('may write bytes that are no text', async () => {
    await withRunner([], async (client) => {
      expect(await client.ended(await client.submit('w', 'binary'))).toMatchObject({ lines: 2 });
      expect((await client.output('w')).lines).toEqual(['o:a\uFFFDb\0c', 'o:no newline']);
    });
  });

  it('has its secrets hidden, also on the border of two writes', async () => {
    const env = { PATH: process.env['PATH'], API_KEY: 'hunter22' };
    await withRunner(
      ['--redact-env', 'API_KEY'],
      async (client, runner) => {
        await client.ended(await client.submit('w', 'secret'));
        expect((await client.output('w')).lines).toEqual(['o:my *** pass']);
        expect(await runner.metric('redactions_total')).toBe(1);
      },
      env,
    );
  });

  it('that writes too much goes on, but what is above the bound is only counted', async () => {
    await withRunner(['--output-bytes-max', '64KiB'], async (client) => {
      const ended = await client.ended(await client.submit('w', 'flood', ['100000']));
      expect(ended).toMatchObject({ outcome: 'succeeded', exit_code: 0 });
      expect((ended.lines ?? 0) + (ended.truncated_lines ?? 0)).toBe(100_000);
      const { lines, events } = await client.output('w');
      expect(lines.length).toBe(ended.lines);
      expect(events.map((event) => event.type)).toEqual(['started', 'error', 'result']);
      expect(events[1]).toMatchObject({ code: 'output_limited' });
    });
  });

  it('that is not allowed, or whose script cannot be started, is rejected with what to do', async () => {
    await withRunner(['--allowed-commands', 'start,stop'], async (client) => {
      expect(await client.ended(await client.submit('w', 'echo'))).toMatchObject({
        outcome: 'rejected',
        exit_code: -1,
      });
      expect((await client.output('w')).events[1]).toMatchObject({ code: 'command_not_allowed' });
    });
    const cases: [name: string, content: string, mode: number, code: number, text: RegExp][] = [
      ['plain', '#!/bin/sh\n', 0o644, 126, /chmod \+x/],
      ['broken', '#!/no/such/shell\n', 0o755, 126, /\/no\/such\/shell/],
    ];
    for (const [name, content, mode, code, text] of cases) {
      const script = join(folder, name);
      await writeFile(script, content);
      await chmod(script, mode);
      await withRunner(['--script', script], async (client) => {
        expect(await client.ended(await client.submit('w', 'x'))).toMatchObject({
          outcome: 'rejected',
          exit_code: code,
        });
        expect((await client.output('w')).events[1]).toMatchObject({
          code: 'cannot_execute',
          error: expect.stringMatching(text),
        });
      });
    }
    await withRunner(['--script', '/no/such/script'], async (client) => {
      expect(await client.ended(await client.submit('w', 'x'))).toMatchObject({ outcome: 'rejected', exit_code: 127 });
    });
  });
});

describe('ending a command', () => {
  it('kills a script that forks and ignores SIGTERM, with every descendant, also in groups of their own', async () => {
    await withRunner(['--kill-grace', '500ms'], async (client) => {
      const { id, all } = await stubborn(client, 'w');
      expect(await client.store.kill('w', id, 'ann')).toMatchObject({ kind: 'running' });
      await client.connection.spublish(client.keys.killChannel(), JSON.stringify({ v: 1, execution: id, target: 'w' }));
      expect(await client.ended(id)).toMatchObject({
        ...{ outcome: 'killed', exit_code: 137, signal: 'SIGKILL', reason: 'killed on request of ann' },
      });
      for (const pid of all) expect(await isAlive(pid)).toBe(false);
    });
  });

  it('sends SIGTERM within a second, with or without the notice', async () => {
    await withRunner([], async (client) => {
      for (const hasNotice of [true, false]) {
        const target = `w-${hasNotice}`;
        const id = await client.submit(target, 'polite');
        await client.line(target, /pids/);
        const begin = performance.now();
        await client.store.kill(target, id, 'ann');
        if (hasNotice) {
          await client.connection.spublish(client.keys.killChannel(), JSON.stringify({ v: 1, execution: id, target }));
        }
        await client.line(target, 'o:bye');
        expect(performance.now() - begin).toBeLessThan(hasNotice ? 600 : 1500);
        expect(await client.ended(id)).toMatchObject({ outcome: 'killed', exit_code: 143 });
      }
    });
  });

  it('needs no notice that it can read', async () => {
    await withRunner([], async (client, runner) => {
      const id = await client.submit('w', 'polite');
      await client.line('w', /pids/);
      const begin = performance.now();
      await client.store.kill('w', id, 'ann');
      await client.connection.spublish(client.keys.killChannel(), JSON.stringify({ v: 2, executions: [id] }));
      await client.line('w', 'o:bye');
      expect(performance.now() - begin).toBeLessThan(1500);
      expect(await client.ended(id)).toMatchObject({ outcome: 'killed', exit_code: 143 });
      // Redis says that it has ended, then the runner counts it.
      await vi.waitFor(async () => expect(await runner.metric('executions_total', { outcome: 'killed' })).toBe(1));
    });
  });

  it('ends what runs longer than its timeout, which a command may set up to a limit', async () => {
    await withRunner(['--command-timeout', '1h', '--command-timeout-max', '1s'], async (client) => {
      const short = await client.submit('a', 'sleep', ['1000'], { timeoutMs: 300 });
      const long = await client.submit('b', 'sleep', ['1000'], { timeoutMs: 3_600_000 });
      expect(await client.ended(short)).toMatchObject({ outcome: 'timed-out', exit_code: 124 });
      expect(await client.ended(long)).toMatchObject({ outcome: 'timed-out', exit_code: 124 });
      expect((await client.output('a')).events[1]).toMatchObject({
        code: 'timed_out',
        error: expect.stringContaining('0.3 s'),
      });
    });
  });

  it('ends what a script left behind when it ended', async () => {
    await withRunner([], async (client) => {
      const id = await client.submit('w', 'leave');
      expect(await client.ended(id)).toMatchObject({ outcome: 'succeeded' });
      const [left] = pids(await client.line('w', /pids/));
      expect(await isAlive(left as number)).toBe(false);
    });
  });

  it('does not wait for ever for output that something out of reach holds open', async () => {
    await withRunner([], async (client, runner) => {
      const id = await client.submit('w', 'escape', ['8']);
      const begin = performance.now();
      expect(await client.ended(id)).toMatchObject({ outcome: 'succeeded' });
      expect(performance.now() - begin).toBeLessThan(6000);
      expect(await runner.metric('escaped_outputs_total')).toBe(1);
      // Its next output goes nowhere, and not into the next command's.
      await client.ended(await client.submit('w', 'echo', ['fresh']));
      expect((await client.output('w')).lines.at(-1)).toBe('o:fresh');
    });
  });

  it('ends what still runs when the runner stops', async () => {
    const client = startClient(redis);
    const runner = await startRunner(redis, client, ['--kill-grace', '1s', '--shutdown-grace', '300ms']);
    const id = await client.submit('w', 'sleep', ['1000']);
    const [pid] = pids(await client.line('w', /pids/));
    const waiting = await client.submit('w', 'echo', ['later']);
    const stopping = runner.stop();
    expect(runner.readiness.ready().ready).toBe(false);
    await stopping;
    expect(await client.ended(id)).toMatchObject({ outcome: 'killed', reason: 'runner shut down', exit_code: 143 });
    expect(await isAlive(pid as number)).toBe(false);
    // What had not started is left for others.
    const other = await startRunner(redis, client);
    expect(await client.ended(waiting)).toMatchObject({ outcome: 'succeeded' });
    await other.stop();
  });

  it('lets commands end by themselves within the grace of a stop', async () => {
    const client = startClient(redis);
    const runner = await startRunner(redis, client, ['--shutdown-grace', '10s']);
    const id = await client.submit('w', 'slowly', ['5', '0.1']);
    await client.line('w', 'o:line 1');
    await runner.stop();
    expect(await client.ended(id, 100)).toMatchObject({ outcome: 'succeeded', lines: 5 });
  });
});

describe('targets', () => {
  it('whose claim is answered only after their runner began to stop have their command run all the same', async () => {
    const client = startClient(redis);
    const runner = await startRunner(redis, client, ['--shutdown-grace', '10s']);
    const claim = Reflect.get(CommandStore.prototype, 'claim');
    let stopping: Promise<void> | undefined;
    const spy = vi.spyOn(CommandStore.prototype, 'claim').mockImplementation(async function (
      this: CommandStore,
      ...args
    ) {
      const answer = await claim.apply(this, args);
      await vi.waitFor(() => expect(stopping).toBeDefined(), { interval: 1 });
      // Long enough for a runner that believes it has nothing to do to be gone.
      await vi.waitFor(() => expect(Date.now() - stoppedMs).toBeGreaterThan(300));
      return answer;
    });
    let stoppedMs = Number.MAX_SAFE_INTEGER;
    const id = await client.submit('w', 'echo', ['late']);
    await client.started(id);
    stoppedMs = Date.now();
    stopping = runner.stop();
    await stopping;
    spy.mockRestore();
    expect(await client.ended(id, 100)).toMatchObject({ outcome: 'succeeded', attempt: 1 });
  });

  it('that have commands waiting when their runner stops lose no time: the runner leaves no job behind', async () => {
    const client = startClient(redis);
    const targets = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
    const runner = await startRunner(redis, client, ['--shutdown-grace', '10s']);
    for (const target of targets) await client.submit(target, 'slowly', ['3', '0.1']);
    const waiting = await Promise.all(targets.map((target) => client.submit(target, 'echo', ['later'])));
    for (const target of targets) await client.line(target, 'o:line 1');
    await runner.stop();
    expect(await client.queue.counts()).toMatchObject({ active: 0 });
    const other = await startRunner(redis, client);
    for (const id of waiting) expect(await client.ended(id)).toMatchObject({ outcome: 'succeeded' });
    await other.stop();
  });

  it('run one command at a time, in the order accepted, over two runners; different ones at once', async () => {
    const client = startClient(redis);
    const runners = [await startRunner(redis, client), await startRunner(redis, client)];
    const targets = ['a', 'b', 'c', 'd'];
    const trace = (target: string) => join(folder, `${client.prefix}-${target}`);
    const ids: string[] = [];
    for (let i = 1; i <= 8; i++) {
      for (const target of targets) ids.push(await client.submit(target, 'trace', [`${i}`, trace(target)]));
    }
    const ended = await Promise.all(ids.map((id) => client.ended(id)));
    expect(new Set(ended.map(({ runner }) => runner)).size).toBe(2);
    for (const target of targets) {
      const expected = Array.from({ length: 8 }, (_, i) => `start ${i + 1}\nend ${i + 1}\n`).join('');
      expect(await readFile(trace(target), 'utf8')).toBe(expected);
    }
    await Promise.all(runners.map((runner) => runner.stop()));
  });

  it('whose job was never added are found by the sweeper', async () => {
    await withRunner([], async (client, runner) => {
      const base = { subject: 's', address: 'a', gateway: 'g', idempotent: false };
      const answer = await client.store.submit({ ...base, target: 'w', command: 'echo', args: ['hi'] });
      if (answer.kind !== 'accepted') throw new Error(answer.kind);
      expect(await client.ended(answer.execution)).toMatchObject({ outcome: 'succeeded' });
      expect(await runner.metric('sweeper_adds_total')).toBeGreaterThan(0);
    });
  });

  it('are not harmed by jobs of a version the runner does not know', async () => {
    await withRunner([], async (client, runner) => {
      const { Queue } = await import('bullmq');
      const jobs = new Queue('commands', { connection: client.connection, prefix: client.keys.bullPrefix });
      await jobs.add('drain', { v: 2, target: 'w' });
      await vi.waitFor(async () => expect(await runner.metric('bad_jobs_total')).toBe(1));
      expect(await client.ended(await client.submit('w', 'echo'))).toMatchObject({ outcome: 'succeeded' });
      await jobs.close();
    });
  });
});

describe('a command that a newer gateway accepted', () => {
  it('is left alone by an older runner, which says so once, and runs as soon as it can be read', async () => {
    const client = startClient(redis);
    const said: string[] = [];
    const destination = new Writable({ write: (chunk, _, done) => (said.push(String(chunk)), done()) });
    const logger = createLogger({ program: 'runner', level: 'error', destination });
    const runner = await startRunner(redis, client, [], { env: { PATH: process.env['PATH'] }, logger });
    try {
      const base = { subject: 'tester', address: '127.0.0.1', gateway: 'test', idempotent: false };
      const answer = await client.store.submit({ ...base, target: 'w', command: 'echo', args: ['hi'] });
      if (answer.kind !== 'accepted') throw new Error(answer.kind);
      const { execution } = answer;
      const record = client.keys.execution(execution);
      await client.connection.hset(record, 'v', '2');
      await client.queue.add('w');
      // The sweeper brings it up again, to whichever runner gets the job: in the end to a newer one.
      const left = async () => (await runner.metric('bad_jobs_total')) ?? 0;
      await vi.waitFor(async () => expect(await left()).toBeGreaterThan(1), { timeout: 20_000 });
      expect(await client.records.get(execution)).toMatchObject({ state: 'queued', attempt: 0 });
      // Once a minute, however often it is found.
      expect(said).toEqual([expect.stringContaining('Upgrade the runners')]);
      await client.connection.hset(record, 'v', '1');
      expect(await client.ended(execution)).toMatchObject({ outcome: 'succeeded', attempt: 1 });
    } finally {
      await runner.stop();
    }
  }, 60_000);
});

describe('a runner', () => {
  it('with the id of another, later started one gives up, and what it ran is lost, not run twice', async () => {
    const client = startClient(redis);
    const failures: Error[] = [];
    const old = await startRunner(redis, client, ['--runner-id', 'r'], {
      onFatal: (error) => void failures.push(error),
    });
    const id = await client.submit('w', 'sleep', ['1000']);
    const [pid] = pids(await client.line('w', /pids/));
    const young = await startRunner(redis, client, ['--runner-id', 'r']);
    expect(await client.ended(id)).toMatchObject({ outcome: 'lost', exit_code: -1 });
    await vi.waitFor(async () => expect(await isAlive(pid as number)).toBe(false), { timeout: 5000 });
    await vi.waitFor(() => expect(failures).toHaveLength(1), { timeout: 8000 });
    expect(failures[0]?.message).toMatch(/--runner-id/);
    expect(await old.metric('fenced_total')).toBe(1);
    await Promise.all([old.stop(), young.stop()]);
  });

  it('needs a script, or the word that it is to do without', () => {
    const config = (...argv: string[]) => {
      const loaded = loadConfig({ program: 'runner', summary: '', schema: runnerSchema, argv, env: {} });
      if (loaded.kind !== 'config') throw new Error('help');
      return () => validateRunnerConfig(loaded.values);
    };
    expect(config()).toThrow(/Expected `--script`.*--without-script/s);
    expect(config()).toThrow(ConfigError);
    expect(config('--script', 'x', '--without-script')).toThrow(/Keep one of them/);
    expect(config('--script', 'x')).not.toThrow();
    expect(config('--without-script')).not.toThrow();
  });

  it('without a script refuses what is for one', async () => {
    await withRunner(['--without-script'], async (client) => {
      expect(await client.ended(await client.submit('w', 'echo'))).toMatchObject({
        ...{ outcome: 'rejected', exit_code: 126 },
      });
      expect((await client.output('w')).events[1]).toMatchObject({ code: 'no_script' });
    });
  });

  it('does not run by its script what is for another executor', async () => {
    await withRunner([], async (client) => {
      const id = await client.submit('w', 'echo', ['x'], { executor: 'agent' });
      expect(await client.ended(id)).toMatchObject({ outcome: 'rejected', exit_code: -1, lines: 0 });
    });
  });

  it('is announced, and ready while it has Redis', async () => {
    await withRunner(['--runner-id', 'r7'], async (client, runner) => {
      expect(runner.readiness.ready().ready).toBe(true);
      const text = await client.connection.get(client.keys.runner('r7'));
      expect(JSON.parse(text as string)).toMatchObject({ id: 'r7', pid: process.pid, concurrency: 32 });
    });
  });
});
