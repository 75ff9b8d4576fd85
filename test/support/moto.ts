/**
 * A pretended AWS for tests: moto in a process of its own on a free loopback port, and the AWS CLI that talks to it
 * (loaded once, forked for each call: a second a call is too much for tests that run scripts by the dozen).
 * Both live in a Python environment that `scripts/setup.sh test` makes; where that could not be made (a laptop without
 * Python or network) {@link motoMissing} says why, for `describe.skipIf`. In CI a missing one is an error, never a skip.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export interface Moto {
  /** For `AWS_ENDPOINT_URL`, or the `endpoint` of an SDK client. */
  url: string;
  /**
   * What the AWS CLI and the SDK read: endpoint, region, credentials that mean nothing, and a PATH with the CLI in
   * front. No configuration of this machine takes part. Without the PATH it suits processes with one of their own.
   */
  env: Readonly<Record<string, string>>;
  /** The AWS CLI; rejects with what it printed when it fails. */
  cli(...args: string[]): Promise<string>;
  /** The same, its answer as JSON. */
  json<T>(...args: string[]): Promise<T>;
  /** Forgets everything; the account is as new, with its default VPC and images. */
  reset(): Promise<void>;
  stop(): Promise<void>;
}

const REGION = 'us-east-1';
const START_MS = 60_000;
const LOG_CHARS_MAX = 10_000;
const support = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** The environment's Python, where `scripts/setup.sh` puts it. */
function toolsPython(): string {
  const cache = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  const [checksum] = execFileSync('cksum', [support('moto-requirements.txt')], { encoding: 'utf8' }).split(' ');
  return join(cache, 'carrierarr', `aws-tools-${checksum}`, 'bin', 'python');
}

const python = toolsPython();

/** Why there is no moto here; undefined if there is. */
export const motoMissing: string | undefined = existsSync(python)
  ? undefined
  : 'needs moto and the AWS CLI: run `bash scripts/setup.sh test`';

if (motoMissing !== undefined && process.env['CI'] !== undefined) throw new Error(`This test ${motoMissing}`);

/** Starts a moto of its own for the caller. */
export async function startMoto(): Promise<Moto> {
  if (motoMissing !== undefined) throw new Error(`startMoto ${motoMissing}`);
  const folder = await mkdtemp(join(tmpdir(), 'moto-'));
  const socket = join(folder, 'aws.sock');
  const processes = [startPython('moto-server.py'), startPython('aws-cli-server.py', socket)] as const;
  const stop = async () => {
    await Promise.all(processes.map(end));
    await rm(folder, { recursive: true, force: true });
  };
  let port: string;
  try {
    [port] = await Promise.all([firstLine(processes[0]), firstLine(processes[1])]);
    await writeFile(
      join(folder, 'aws'),
      `#!/bin/sh\nexec '${python}' -I '${support('aws-cli-client.py')}' '${socket}' "$@"\n`,
    );
    await chmod(join(folder, 'aws'), 0o755);
  } catch (error) {
    await stop();
    throw error;
  }
  const url = `http://127.0.0.1:${port}`;
  const env: Record<string, string> = {
    PATH: `${folder}${delimiter}${process.env['PATH'] ?? ''}`,
    AWS_ENDPOINT_URL: url,
    AWS_ACCESS_KEY_ID: 'testing',
    AWS_SECRET_ACCESS_KEY: 'testing',
    AWS_REGION: REGION,
    AWS_DEFAULT_REGION: REGION,
    AWS_CONFIG_FILE: '/dev/null',
    AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_PAGER: '',
  };
  const cli = async (...args: string[]) => {
    const { stdout } = await promisify(execFile)(join(folder, 'aws'), args, { env, maxBuffer: 64 * 1024 * 1024 });
    return stdout;
  };
  return {
    url,
    env,
    cli,
    json: async <T>(...args: string[]) => JSON.parse(await cli(...args, '--output', 'json')) as T,
    async reset() {
      const response = await fetch(`${url}/moto-api/reset`, { method: 'POST' });
      if (!response.ok) throw new Error(`moto did not reset: ${response.status} ${await response.text()}`);
    },
    stop,
  };
}

/** A program of this folder. It ends when its standard input does, so it cannot outlive this process. */
function startPython(program: string, ...args: string[]): ChildProcess {
  return spawn(python, [support(program), ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    // The last is for macOS, which else ends forks of a process that has used certain libraries.
    env: { PATH: process.env['PATH'] ?? '', HOME: '/nonexistent', OBJC_DISABLE_INITIALIZE_FORK_SAFETY: 'YES' },
  });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

/** What a program prints once it listens. Its log is kept for the error of one that does not. */
async function firstLine(child: ChildProcess): Promise<string> {
  let log = '';
  const keep = (text: string) => void (log = (log + text).slice(-LOG_CHARS_MAX));
  child.stderr?.setEncoding('utf8').on('data', keep);
  if (child.stdout === null) throw new Error('Expected a standard output, got none.');
  const timeout = AbortSignal.timeout(START_MS);
  const ended = new Promise<never>((_, reject) => {
    const fail = (how: string) => reject(new Error(`${child.spawnargs.join(' ')} ${how}:\n${log}`));
    child.once('error', reject);
    child.once('exit', (code) => fail(`ended with ${code} before it listened`));
    timeout.addEventListener('abort', () => fail(`did not listen within ${START_MS / 1000} s`));
  });
  ended.catch(() => undefined);
  const [line] = (await Promise.race([once(createInterface(child.stdout), 'line'), ended])) as [string];
  return line;
}
