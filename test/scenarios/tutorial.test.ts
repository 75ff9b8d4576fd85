/**
 * The tutorial, as somebody reads it: each `sh` block is run as it stands, in order, and has to show, now or soon, what the
 * `text` block below it says (`…` stands for anything).
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { WORKSPACE } from '../support/programs.js';
import { until } from '../support/until.js';
import { startUp } from '../support/up.js';

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
  const up = await startUp();
  // No configuration of whoever runs this.
  const home = join(tmpdir(), 'carrierarr-nobody');
  const env = { PATH: process.env['PATH'] ?? '', HOME: home, CARRIERARR_URL: up.url };

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
