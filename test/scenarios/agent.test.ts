/** The agent as a process of its own: killed while a command runs, and as one file on a machine with nothing but Node. */
import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { CommandEnd, CommandType } from '@carrierarr/protocol/agent-control';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TestControlPlane } from '../agent/support/control-plane.js';
import { isRunning, residentBytes } from '../support/processes.js';
import { type Program, startProgram, WORKSPACE } from '../support/programs.js';
import { until } from '../support/until.js';

const MiB = 1024 * 1024;
let control: TestControlPlane;
let folder: string;
const programs: Program[] = [];

beforeEach(async () => {
  control = await TestControlPlane.start();
  folder = await mkdtemp(join(tmpdir(), 'carrierarr-agent-scenario-'));
});
afterEach(async () => {
  await Promise.all(programs.splice(0).map((program) => program.kill()));
  control.stop();
  await rm(folder, { recursive: true, force: true });
});

const FLAGS = [
  '--health-port',
  '0',
  '--metadata',
  'off',
  '--log-format',
  'json',
  '--node-id',
  'node-1',
  '--allow-exec',
  '*',
];

function agent(flags: readonly string[] = []): Program {
  const args = ['agent', '--control-plane', control.address, '--state-dir', join(folder, 'state'), ...FLAGS, ...flags];
  const program = startProgram({ name: 'agent', args, listens: /"address":"127\.0\.0\.1:(\d+)","msg":"health/ });
  programs.push(program);
  return program;
}

const witness = (path: string) => ['sh', '-c', `echo $$; echo ran >> ${path}; sleep 120 & echo $!; wait`];

it('leaves nothing running when it is killed, says after its restart that the command is lost, and runs it once', async () => {
  const first = agent();
  await first.ready();
  const path = join(folder, 'ran');
  const command = { commandId: 'c1', fence: 4, argv: witness(path) };
  control.command(command);
  const pids = await until('both processes', () => {
    const lines = control.text('c1').trim().split('\n');
    return lines.length === 2 && lines.map(Number);
  });
  await first.kill();
  await until('the watchdog to end them', () => !pids.some(isRunning));
  const second = agent();
  const result = await control.result('c1');
  expect(result).toMatchObject({ end: CommandEnd.COMMAND_END_LOST, fence: 4, success: false });
  expect(result.error).toContain('restarted while the command ran');
  // Sent once more, as a control plane does that has not got the result.
  await second.ready();
  control.command(command);
  await until('the result again', () => control.results('c1').length >= 2);
  expect(await readFile(path, 'utf8')).toBe('ran\n');
});

it('ends its command and says so when it is stopped', async () => {
  const program = agent();
  await program.ready();
  control.command({ commandId: 'c1', argv: witness(join(folder, 'ran')) });
  const pid = await until('its process', () => Number(control.text('c1').split('\n')[0]) || undefined);
  expect(await program.stop()).toEqual({ code: 0, signal: null });
  expect(isRunning(pid)).toBe(false);
  expect(control.results('c1')[0]).toMatchObject({ end: CommandEnd.COMMAND_END_LOST, error: 'the agent was stopped' });
});

it('ends itself when told to shut down by `exit`, which ends the task of a sidecar, and reports that it did', async () => {
  const program = agent(['--shutdown-command', 'exit']);
  await program.ready();
  control.command({ commandId: 'c1', type: CommandType.COMMAND_TYPE_SHUTDOWN });
  expect(await program.ended).toEqual({ code: 0, signal: null });
  expect(control.results('c1')).toMatchObject([{ success: true, end: CommandEnd.COMMAND_END_EXITED }]);
  expect(control.text('c1')).toBe('the agent ends itself\n');
});

it('serves health, readiness and metrics, and is small', async () => {
  const program = agent();
  await program.ready();
  expect(await (await fetch(`${program.url}/health`)).json()).toEqual({ status: 'healthy' });
  const ready = (await (await fetch(`${program.url}/ready`)).json()) as { checks: Record<string, unknown> };
  expect(Object.keys(ready.checks)).toEqual(['control plane']);
  const metrics = await (await fetch(`${program.url}/metrics`)).text();
  expect(metrics).toContain('carrierarr_agent_connected 1');
  expect(residentBytes(program.pid)).toBeLessThan(160 * MiB);
});

it.runIf(existsSync('/proc/self'))(
  'says in its health what a state folder that cannot be written keeps it from',
  async () => {
    // The last one counts. Nobody can make a file there, not even root.
    const program = agent(['--state-dir', '/proc']);
    await program.ready();
    const health = await fetch(`${program.url}/health`);
    expect(health.status).toBe(200);
    expect(await health.json()).toMatchObject({
      status: 'healthy',
      problems: [
        expect.stringMatching(/^No commands are taken: The state folder \/proc cannot be used: .*--state-dir/),
      ],
    });
  },
);

it('runs as one file from an empty folder', async () => {
  const file = join(folder, 'carrierarr-agent.mjs');
  await promisify(execFile)(process.execPath, [join(WORKSPACE, 'apps/agent/build-single.mjs'), file]);
  const { stdout } = await promisify(execFile)(process.execPath, [file, 'version'], { cwd: folder });
  expect(stdout).toMatch(/^carrierarr-agent \d+\.\d+\.\d+\n$/);
  const args = [file, '--control-plane', control.address, '--state-dir', join(folder, 'state'), ...FLAGS];
  const child = spawn(process.execPath, args, { cwd: folder, env: { PATH: process.env['PATH'] }, stdio: 'ignore' });
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  try {
    await control.connected();
    control.command({ commandId: 'c1', argv: ['sh', '-c', 'echo one; echo two >&2'] });
    expect(await control.result('c1')).toMatchObject({ exitCode: 0, lines: 2 });
    expect(control.text('c1').split('\n').toSorted()).toEqual(['', 'one', 'two']);
    expect(residentBytes(child.pid ?? 0)).toBeLessThan(128 * MiB);
  } finally {
    child.kill('SIGTERM');
  }
  expect(await ended).toBe(0);
});
