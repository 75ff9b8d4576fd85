/** The `carrierarr` command as people use it, against real gateways. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { Installation } from '../support/installation.js';
import { startProgram, WORKSPACE } from '../support/programs.js';
import { until } from '../support/until.js';

/** Runs `carrierarr ARGS` against a gateway. */
function carrierarr(url: string, ...args: string[]) {
  return startProgram({ name: args.join(' '), args, env: { CARRIERARR_URL: url } });
}

async function startMockInstallation(speed = 20): Promise<Installation> {
  return Installation.start({
    script: join(WORKSPACE, 'scripts/mock-worker.sh'),
    scriptEnv: { MOCK_WORKER_SPEED: `${speed}` },
  });
}

test('`run --wait` exits with the code of the script and shows both of its streams', async () => {
  const it = await startMockInstallation();
  const { url } = it.gateway(0);
  const failing = carrierarr(url, 'run', 'worker-1', 'error', '--wait');
  expect(await failing.ended).toEqual({ code: 1, signal: null });
  expect(failing.stdout()).toContain('checking quota');
  expect(failing.output()).toContain('launch refused');
  expect(failing.stdout()).not.toContain('launch refused');

  expect((await carrierarr(url, 'run', 'worker-1', 'status', '--wait').ended).code).toBe(0);
  expect((await carrierarr(url, 'run', 'worker-1', 'no-such-verb', '--wait').ended).code).toBe(64);
  expect((await carrierarr(url, 'run', '--no-such-flag', 'worker-1', 'status').ended).code).toBe(125);
});

test('`run --wait` on one gateway and `logs -f` on another show the same lines', async () => {
  const it = await startMockInstallation();
  const [first, second] = [it.gateway(0).url, it.gateway(1).url];
  // Something to see, so that it is known to follow.
  expect((await carrierarr(first, 'run', 'worker-1', 'provision', '--wait').ended).code).toBe(0);
  const logs = carrierarr(second, 'logs', 'worker-1', '-f', '--tail', '1');
  await until('it to follow', () => logs.stdout().includes('provisioned'));
  const before = logs.stdout().length;

  const run = carrierarr(first, 'run', 'worker-1', 'start', '--wait');
  expect((await run.ended).code).toBe(0);
  const lines = (text: string) => text.split('\n').filter((line) => line.includes('[worker-1]'));
  await until('all lines', () => lines(logs.stdout().slice(before)).length >= lines(run.stdout()).length, 5_000);
  logs.signal('SIGINT');
  await logs.ended;
  expect(lines(run.stdout()).length).toBeGreaterThan(5);
  expect(lines(logs.stdout().slice(before))).toEqual(lines(run.stdout()));
  const errors = (output: string) => output.split('\n').filter((line) => line.includes('warning'));
  expect(errors(run.output())).toHaveLength(1);
});

test('`ps` shows what runs, and `kill` from another gateway ends it', async () => {
  // Half a minute of output: longer than it takes to start two programs on a busy machine.
  const it = await startMockInstallation(1);
  const [first, second] = [it.gateway(0).url, it.gateway(1).url];
  const run = carrierarr(first, 'run', 'worker-7', 'stream', '--wait');
  await until('its first line', () => run.stdout().includes('stream 1 of'));
  const ps = carrierarr(second, 'ps');
  expect((await ps.ended).code).toBe(0);
  expect(ps.stdout()).toMatch(/worker-7.*stream|stream.*worker-7/);
  expect((await carrierarr(second, 'kill', 'worker-7').ended).code).toBe(0);
  expect((await run.ended).code).toBe(143);
  const executions = carrierarr(second, 'get', 'executions', '-o', 'json');
  expect((await executions.ended).code).toBe(0);
  expect(executions.stdout()).toContain('"killed"');
});

test('`run` against nobody says so and exits with 125', async () => {
  const run = carrierarr('http://127.0.0.1:9', 'run', 'worker-1', 'status', '--wait');
  expect((await run.ended).code).toBe(125);
  expect(run.output()).toContain('http://127.0.0.1:9');
});

test('`up` without a script has a runner all the same, and refuses what is for a script; `runner` asks for one', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'carrierarr-up-'));
  const up = startProgram({
    name: 'up without a script',
    listens: /http:\/\/127\.0\.0\.1:(\d+)\D/,
    args: ['up', '--addr', '127.0.0.1:0', '--grpc-addr', '127.0.0.1:0', '--state-dir', folder],
  });
  onTestFinished(async () => {
    await up.stop();
    await rm(folder, { recursive: true, force: true });
  }, 30_000);
  await up.ready();
  expect(await (await fetch(`${up.url}/ready`)).json()).toMatchObject({ checks: { runner: { ok: true } } });
  const refused = carrierarr(up.url, 'run', 'worker-1', 'status', '--wait');
  expect((await refused.ended).code).toBe(126);
  expect(refused.output()).toContain('no control script');

  const runner = startProgram({ name: 'runner without a script', args: ['runner'] });
  expect((await runner.ended).code).not.toBe(0);
  expect(runner.output()).toContain('--without-script');
});

test('a program loads what it needs, and nothing of what only others need', async () => {
  // The files of the program say what they were made of; what is not in them is CommonJS, which keeps a list of what it has loaded.
  const hooks = `import { writeSync } from 'node:fs';
    export const load = (url, context, next) => (writeSync(2, url + '\\n'), next(url, context));`;
  const hook = `import module from 'node:module';
    module.register('data:text/javascript,' + encodeURIComponent(${JSON.stringify(hooks)}));
    process.on('exit', () => console.error(Object.keys(module._cache).join('\\n')));`;
  const some = ['ioredis', 'pino', 'prom-client', 'uWebSockets.js', '@grpc/grpc-js'];
  for (const [args, expected] of [
    // Loading what serves would take longer than the command.
    [['ps', '--help'], []],
    [
      ['gateway', '--help'],
      ['ioredis', 'pino', 'prom-client', 'uWebSockets.js'],
    ],
    [
      ['runner', '--help'],
      ['ioredis', 'pino', 'prom-client'],
    ],
    [
      ['monitor', '--help'],
      ['ioredis', 'pino', 'prom-client', '@grpc/grpc-js'],
    ],
    [['up', '--help'], some],
  ] as const) {
    const env = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(hook)}` };
    const ran = startProgram({ name: args.join(' '), args: [...args], env });
    expect((await ran.ended).code).toBe(0);
    const files = ran.output().match(/(?<=^file:\/\/)\/.*$/gm) ?? [];
    const said = [ran.output(), ...(await Promise.all(files.map((file) => readFile(file, 'utf8'))))].join('\n');
    const loaded = some.filter((name) => said.includes(`/node_modules/${name}/`));
    expect([args, loaded]).toEqual([args, expected]);
  }
});
