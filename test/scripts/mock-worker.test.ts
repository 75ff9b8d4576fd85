import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const script = fileURLToPath(new URL('../../scripts/mock-worker.sh', import.meta.url));

let home: string;
let stateDir: string;

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'mock-worker-'));
  stateDir = join(home, 'deep', 'state');
});
afterEach(() => rm(home, { recursive: true, force: true }));

function environment(extra: Record<string, string> = {}): Record<string, string> {
  return { PATH: process.env['PATH'] ?? '', MOCK_WORKER_STATE_DIR: stateDir, MOCK_WORKER_SPEED: '0', ...extra };
}

interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

function worker(args: string[], extra?: Record<string, string>): Promise<Ran> {
  return new Promise((resolve) => {
    const options = { env: environment(extra), maxBuffer: 64 * 1024 * 1024 };
    execFile('bash', [script, ...args], options, (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr });
    });
  });
}

async function status(target = 'default'): Promise<Record<string, unknown>> {
  const { stdout } = await worker(['status'], { CARRIERARR_TARGET: target });
  return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Record<string, unknown>;
}

describe('a life', () => {
  test('goes from absent over running and stopped back to absent', async () => {
    expect(await status()).toEqual({ name: 'default', state: 'absent' });

    const started = await worker(['start']);
    expect(started).toMatchObject({ code: 0 });
    expect(started.stdout).toContain('[default] booting...\n');
    expect(started.stdout).toMatch(/pulling image/);
    expect(started.stderr).toMatch(/warning/);
    expect(await status()).toMatchObject({ state: 'running', launch_time: expect.stringMatching(/^\d{4}-.*Z$/) });
    expect((await worker(['logs'])).stdout).toContain('boot #1');

    expect((await worker(['stop'])).code).toBe(0);
    expect(await status()).toMatchObject({ state: 'stopped' });

    expect((await worker(['terminate'])).code).toBe(0);
    expect(await status()).toEqual({ name: 'default', state: 'absent' });
    expect(await readdir(stateDir)).toEqual([]);
  });

  test('provisioning makes a stopped worker, once', async () => {
    expect((await worker(['provision'])).stdout).toContain('provisioned');
    expect(await status()).toMatchObject({ state: 'stopped' });
    expect((await worker(['provision'])).stdout).toContain('already provisioned');
  });

  test('a second start says so and changes nothing', async () => {
    await worker(['start']);
    const again = await worker(['start']);
    expect(again).toMatchObject({ code: 0, stderr: '' });
    expect(again.stdout).toContain('already running');
    expect((await worker(['logs'])).stdout).toContain('boot #1');
  });

  test('the log of an absent worker is an error that says what to do', async () => {
    const { code, stdout, stderr } = await worker(['logs']);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain('"start"');
  });
});

describe('targets', () => {
  test('CARRIERARR_TARGET wins over EC2_AGENT_TARGET', async () => {
    const both = { CARRIERARR_TARGET: 'new', EC2_AGENT_TARGET: 'old' };
    expect((await worker(['status'], both)).stdout).toContain('"name":"new"');
    expect((await worker(['status'], { EC2_AGENT_TARGET: 'old' })).stdout).toContain('"name":"old"');
  });

  const odd = [
    ...['../../x', '/etc/passwd', '..', '.', '-rf', 'a b', 'A', 'a', '%41', '*', '~', '$(id)', "it's"],
    ...['say "hi" \\ bye', 'line\nbreak\ttab\u0001\u007f', 'grün 🚀', 'x'.repeat(900), 'é'.repeat(300)],
  ];
  test('odd names stay in the directory, apart from each other, and valid in JSON', async () => {
    for (const target of odd) {
      // One after the other: each must leave the state of the others untouched.
      expect(await status(target)).toEqual({ name: target, state: 'absent' });
      expect(await worker(['provision'], { CARRIERARR_TARGET: target })).toMatchObject({ code: 0 });
      expect(await status(target)).toMatchObject({ name: target, state: 'stopped' });
    }
    const files = await readdir(stateDir);
    expect(files).toHaveLength(odd.length);
    expect(new Set(files.map((file) => file.toLowerCase())).size).toBe(odd.length);
    expect(await readdir(dirname(stateDir))).toEqual(['state']);
    expect(await readdir(home)).toEqual(['deep']);
  });

  test('the state is nobody else’s business', async () => {
    await worker(['start']);
    expect((await stat(stateDir)).mode & 0o777).toBe(0o700);
    for (const file of await readdir(stateDir)) {
      expect((await stat(join(stateDir, file))).mode & 0o077).toBe(0);
    }
  });

  test('a damaged state file is named, not guessed at', async () => {
    await worker(['start']);
    const file = join(stateDir, 'default.state');
    await writeFile(file, 'runn');
    const { code, stderr } = await worker(['start']);
    expect(code).toBe(1);
    expect(stderr).toContain(file);
  });
});

describe('output', () => {
  test('flood writes exactly its numbered lines', async () => {
    const { code, stdout, stderr } = await worker(['flood', '200000']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const lines = stdout.split('\n');
    expect(lines).toHaveLength(200_001);
    expect(lines.findIndex((line, at) => line !== (at < 200_000 ? `flood ${at + 1} of 200000` : ''))).toBe(-1);
  });

  test.each([[['flood']], [['flood', 'many']], [['flood', '1', '2']], [['flood', '-1']]])(
    '%j is wrong use',
    async (args) => {
      const { code, stdout, stderr } = await worker(args);
      expect({ code, stdout }).toEqual({ code: 64, stdout: '' });
      expect(stderr).toContain(`got "flood ${args.slice(1).join(' ')}"`);
    },
  );

  test('stream writes 150 numbered lines, a third of them on stderr', async () => {
    const { code, stdout, stderr } = await worker(['stream']);
    const numbers = (text: string) => [...text.matchAll(/stream (\d+) of 150/g)].map((match) => Number(match[1]));
    expect(code).toBe(0);
    expect(numbers(stderr)).toHaveLength(50);
    const all = [...numbers(stdout), ...numbers(stderr)].toSorted((a, b) => a - b);
    expect(all).toEqual(Array.from({ length: 150 }, (_, index) => index + 1));
  });

  test('error explains itself on stderr and exits with 1', async () => {
    const { code, stdout, stderr } = await worker(['error']);
    expect(code).toBe(1);
    expect(stdout).toContain('launching');
    expect(stderr).toContain('quota');
  });

  test.each([[['dance']], [[]], [['']], [['--help']], [['open_state']]])('%j answers with the usage', async (args) => {
    const { code, stdout, stderr } = await worker(args);
    expect({ code, stdout }).toEqual({ code: 64, stdout: '' });
    expect(stderr).toContain('usage: mock-worker.sh VERB');
  });

  test('a speed that is no number is refused', async () => {
    const { code, stderr } = await worker(['start'], { MOCK_WORKER_SPEED: 'fast' });
    expect(code).toBe(64);
    expect(stderr).toContain('"fast"');
  });
});

describe('SIGTERM', () => {
  /** Starts a verb so slow that it cannot end by itself, signals it once `sign` was printed, and gives its end. */
  async function interrupt(verb: string, sign: string, whom: 'process' | 'group'): Promise<Ran> {
    const child = spawn('bash', [script, verb], { env: environment({ MOCK_WORKER_SPEED: '0.001' }), detached: true });
    const ran: Ran = { code: -1, stdout: '', stderr: '' };
    child.stderr.setEncoding('utf8').on('data', (text: string) => (ran.stderr += text));
    createInterface(child.stdout).on('line', (line) => {
      ran.stdout += `${line}\n`;
      if (line.includes(sign) && child.pid) process.kill(whom === 'group' ? -child.pid : child.pid, 'SIGTERM');
    });
    // 'close' comes when both pipes are at their end: a sleep left behind must not hold them open.
    const [code] = (await once(child, 'close')) as [number];
    return { ...ran, code };
  }

  test.each(['process', 'group'] as const)('to the %s during start leaves the worker as it was', async (whom) => {
    await worker(['provision']);
    const { code, stderr } = await interrupt('start', 'booting', whom);
    expect(code).toBe(143);
    expect(stderr).toContain('start interrupted by SIGTERM; default is stopped\n');
    expect(await status()).toMatchObject({ state: 'stopped' });
    expect(await readdir(stateDir)).toEqual(['default.state']);
    expect((await worker(['start'])).code).toBe(0);
  });

  test('during stream prints a line and leaves the worker running', async () => {
    await worker(['start']);
    const { code, stderr } = await interrupt('stream', 'stream 1 of', 'process');
    expect(code).toBe(143);
    expect(stderr).toContain('stream interrupted by SIGTERM; default is running\n');
    expect(await status()).toMatchObject({ state: 'running' });
  });
});
