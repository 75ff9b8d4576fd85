/**
 * The tutorial, as somebody reads it: each `sh` block is run as it stands, in order, and has to show, now or soon, what the
 * `text` block below it says (`…` stands for anything).
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { startProgram, WORKSPACE } from '../support/programs.js';
import { until } from '../support/until.js';

const SHOWN_WITHIN_MS = 60_000;

interface Step {
  commands: string;
  /** A line of the output has to match each. */
  shows: RegExp[];
}

function stepsOf(markdown: string): Step[] {
  return [...markdown.matchAll(/^```sh\n(.*?)^```$(?:\n+^```text\n(.*?)^```$)?/gms)].map(
    ([, commands = '', text = '']) => ({
      commands,
      shows: text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => new RegExp(line.split(/ *… */).map(escaped).join('.*'))),
    }),
  );
}

const escaped = (text: string) => text.replace(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`);

/** Both streams of the commands, as a terminal shows them. Rejects if one of them fails. */
function shell(commands: string, env: Record<string, string>): Promise<string> {
  const main = join(WORKSPACE, 'apps/cli/dist/main.js');
  const script = `set -e; carrierarr() { '${process.execPath}' '${main}' "$@"; }\n${commands}`;
  return new Promise((resolve, reject) => {
    execFile('bash', ['-c', script], { cwd: WORKSPACE, env }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${commands}failed:\n${stdout}${stderr}`, { cause: error }));
      else resolve(`${stdout}${stderr}`);
    });
  });
}

test('every step of the tutorial does and shows what it says', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'carrierarr-tutorial-'));
  const up = startProgram({
    name: 'carrierarr up',
    listens: /http:\/\/127\.0\.0\.1:(\d+)\D/,
    args: [
      'up',
      '--addr',
      '127.0.0.1:0',
      '--grpc-addr',
      'off',
      '--script',
      'scripts/mock-worker.sh',
      '--state-dir',
      folder,
    ],
    env: { MOCK_WORKER_STATE_DIR: join(folder, 'workers'), MOCK_WORKER_SPEED: '5' },
  });
  onTestFinished(async () => {
    await up.stop();
    await rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }, 30_000);
  await up.ready();
  const env = { PATH: process.env['PATH'] ?? '', HOME: folder, CARRIERARR_URL: up.url };

  const steps = stepsOf(await readFile(join(WORKSPACE, 'docs/tutorials/five-minutes.md'), 'utf8'));
  expect(steps.length).toBeGreaterThan(8);
  expect(steps.filter(({ shows }) => shows.length === 0)).toEqual([]);
  for (const { commands, shows } of steps) {
    // What only looks may be asked again, as the reader is told to.
    const onlyLooks = /^(carrierarr (get|describe|logs) .*\n)+$/.test(commands);
    let shown = '';
    const look = async () => {
      shown = await shell(commands, env);
      return shows.every((line) => shown.split('\n').some((text) => line.test(text)));
    };
    if (onlyLooks)
      await until(() => `${commands}to show ${shows.join(', ')}; it shows:\n${shown}`, look, SHOWN_WITHIN_MS);
    else expect(await look(), `${commands}shows ${shows.join(', ')}; it shows:\n${shown}`).toBe(true);
  }
});
