/** `carrierarr up` and an agent as two programs, and a command from a third: gateway, runner, monitor, agent, log, and back. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type Program, startProgram } from '../support/programs.js';
import { until } from '../support/until.js';

async function startUp(folder: string): Promise<{ up: Program; agent: string }> {
  const up = startProgram({
    name: 'up',
    listens: /http:\/\/127\.0\.0\.1:(\d+)\D/,
    args: ['up', '--addr', '127.0.0.1:0', '--grpc-addr', '127.0.0.1:0', '--state-dir', join(folder, 'up')],
  });
  onTestFinished(() => up.stop().then(() => undefined), 30_000);
  await up.ready();
  return {
    up,
    agent: await until('how to start an agent', () => /Agents connect to \S+:\n +(.+)\n/.exec(up.stdout())?.[1]),
  };
}

/** As it was said how to. */
function startAgent(folder: string, command: string): Program {
  const agent = startProgram({
    name: 'agent',
    launch: ['bash', '-c', `exec ${command} "$@"`, 'agent'],
    args: ['--metadata', 'off', '--allow-exec', 'uname,sh', '--health-port', '0'],
    env: { TMPDIR: folder },
  });
  onTestFinished(() => agent.stop().then(() => undefined), 30_000);
  return agent;
}

test('a command reaches the agent of a node, its output and exit code come back, and a kill ends it there', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'carrierarr-node-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const { up, agent } = await startUp(folder);
  // Only root could make the folder that it has by default.
  expect(agent).toContain('--state-dir');
  startAgent(folder, agent);
  const [node] = await until('the node', async () => {
    const nodes = (await (await fetch(`${up.url}/api/v1/nodes`)).json()) as { id: string; stream_active: boolean }[];
    return nodes.some((each) => each.stream_active) ? nodes : undefined;
  });
  const name = node?.id ?? '';
  const carrierarr = (...args: string[]) =>
    startProgram({ name: `carrierarr ${args[0]}`, args: [...args], env: { CARRIERARR_URL: up.url } });

  const uname = carrierarr('run', '--wait', name, 'exec', '--', 'uname', '-s');
  expect((await uname.ended).code).toBe(0);
  expect(uname.stdout().trim()).toMatch(/^(Linux|Darwin)$/);

  const failing = carrierarr('run', '--wait', name, 'exec', '--', 'sh', '-c', 'echo out; echo err >&2; exit 7');
  expect((await failing.ended).code).toBe(7);
  expect(failing.output()).toMatch(/out\n[^]*err|err\n[^]*out/);

  const refused = carrierarr('run', '--wait', name, 'exec', '--', 'rm', '-r', '/nonexistent');
  expect((await refused.ended).code).toBe(126);
  expect(refused.output()).toContain('"rm" is not allowed');

  const sleeping = carrierarr('run', '--wait', name, 'exec', '--', 'sh', '-c', 'echo begun; sleep 1000');
  await until('its first line', () => sleeping.stdout().includes('begun'));
  expect((await carrierarr('kill', name).ended).code).toBe(0);
  expect((await sleeping.ended).code).toBe(143);
});
