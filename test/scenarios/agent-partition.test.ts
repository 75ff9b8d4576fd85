/**
 * The network between an agent and its monitor goes away for a while with both ends alive, as a cut cable does: neither is told.
 * A command that runs meanwhile goes on, and all that it wrote is there once and in order.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { addNamespace, namespaceMissing } from '../support/network-namespace.js';
import { type Program, startGateway, startMonitor, startProgram, startRunner, WORKSPACE } from '../support/programs.js';
import { startRedis } from '../support/redis.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { until } from '../support/until.js';

/** Short enough for TCP to make up for it, and for nobody to notice. */
const SHORT_MS = 2_000;
/** The agent asks whether its stream is alive each 20 s, and waits 8 s for the answer. */
const NOTICED_MS = 60_000;
/** As promised for all outages. */
const BACK_MS = 30_000;

it.skipIf(namespaceMissing !== undefined)(
  'a command goes on through cuts of the network, and its output is whole',
  async () => {
    const [redis, network] = [await startRedis(), await addNamespace()];
    const folder = temporaryFolder('partition-');
    const programs: Program[] = [];
    onTestFinished(async () => {
      await Promise.all(programs.map((program) => program.kill()));
      await network.remove();
      await redis.stop();
    });
    const started = async (program: Program) => {
      programs.push(program);
      await program.ready();
      return program;
    };
    const of = (name: string) => ({ name, redisUrl: redis.url });
    const gateway = await started(startGateway(of('gateway')));
    await started(
      startRunner({
        ...of('runner'),
        script: '/bin/true',
        flags: ['--agent-outage-grace', '5m', '--kill-grace', '1s'],
      }),
    );
    const flags = ['--grpc-addr', `${network.outside}:0`, '--grpc-insecure', '--stale-timeout', '10s'];
    flags.push('--grpc-keepalive', '5s', '--grpc-keepalive-timeout', '5s');
    flags.push('--agent-status-interval', '1s', '--agent-heartbeat-interval', '1s');
    const monitor = await started(startMonitor({ ...of('monitor'), flags }));
    const address = await until(
      'where it serves agents',
      () => /"address":"([\d.]+:\d+)"[^\n]*"msg":"agents are served"/.exec(monitor.output())?.[1],
    );
    const agent = startProgram({
      name: 'agent',
      launch: [...network.enter, process.execPath, join(WORKSPACE, 'apps/cli/dist/main.js')],
      args: [
        ...['agent', '-control-plane', address, '--node-id', 'far-away', '--state-dir', join(folder, 'state')],
        ...['--health-port', '0', '--metadata', 'off', '--allow-exec', 'sh', '--log-format', 'json'],
      ],
    });
    programs.push(agent);

    const node = async () => {
      const nodes = (await (await fetch(`${gateway.url}/api/v1/nodes`)).json()) as {
        liveness: string;
        stream_active: boolean;
      }[];
      return nodes[0];
    };
    const isBack = async () => {
      const found = await node();
      return found?.stream_active === true && found.liveness === 'healthy';
    };
    await until('the node', isBack);

    const last = join(folder, 'last');
    const program = `i=0; while [ ! -e ${last} ]; do echo $i; i=$((i+1)); sleep 0.05; done; echo end`;
    const run = startProgram({
      name: 'run',
      args: ['run', '--wait', 'far-away', 'exec', '--', 'sh', '-c', program],
      env: { CARRIERARR_URL: gateway.url },
    });
    programs.push(run);
    const lines = () => run.stdout().trim().split('\n');
    const goesOn = async (what: string, timeoutMs: number) => {
      const before = lines().length;
      await until(what, () => lines().length > before + 5, timeoutMs);
    };
    await goesOn('the first lines', 20_000);

    await network.cut();
    const cutMs = performance.now();
    await until('a short cut to be over', () => performance.now() - cutMs >= SHORT_MS);
    await network.mend();
    await goesOn('lines after a short cut', BACK_MS);
    expect(agent.output().match(/"msg":"connected"/g)).toHaveLength(1);

    await network.cut();
    await until('the monitor to give the stream up', async () => (await node())?.stream_active === false, NOTICED_MS);
    await until('the node to be stale', async () => (await node())?.liveness === 'stale', NOTICED_MS);
    await until(
      'the agent to give it up as well',
      () => agent.output().includes('"msg":"no connection to the control plane"'),
      NOTICED_MS,
    );
    const before = lines().length;
    await network.mend();
    await until('the node to be back', isBack, BACK_MS);
    await until('what was written meanwhile', () => lines().length > before + 100, BACK_MS);

    await writeFile(last, '');
    expect(await run.ended).toMatchObject({ code: 0 });
    const written = lines();
    expect(written.pop()).toBe('end');
    expect(written).toEqual(written.map((_, i) => String(i)));
    expect(agent.output().match(/"msg":"command begins"/g)).toHaveLength(1);
  },
  240_000,
);
