/**
 * Redis as larger installations have it: a Cluster, or Sentinels. Its primaries die one after the other under load, and
 * replicas take over (O1, O5, C1, S1, A1).
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Keys } from '@carrierarr/protocol';
import { expect, onTestFinished, test } from 'vitest';
import { doubled, fleetOf } from '../support/fleet.js';
import { Installation } from '../support/installation.js';
import { startProgram, WORKSPACE } from '../support/programs.js';
import { noRedisServer } from '../support/redis.js';
import { type ReplicatedRedis, startCluster, startSentinels } from '../support/redis-replicated.js';
import { until } from '../support/until.js';
import { COMMAND_ID } from '../support/ws-clients.js';

const TARGETS = ['worker-1', 'worker-2', 'worker-3'];
const FAILOVER_MS = 60_000;
const keys = new Keys('carrierarr');

test.skipIf(noRedisServer() !== undefined).each<[string, () => Promise<ReplicatedRedis>, readonly string[]]>([
  // What wakes runners, and a target.
  ['a Cluster', startCluster, [`${keys.bullPrefix}:drain`, keys.log('worker-1')]],
  ['a primary behind Sentinels', startSentinels, ['whatever']],
])(
  'primaries of %s are killed under load: clients are told, scripts go on, and nothing is lost or done twice',
  async (what, startReplicated, primaries) => {
    const redis = await startReplicated();
    onTestFinished(() => redis.stop(), 30_000);
    const it = await Installation.start({ redisFlags: redis.flags });
    const client = await it.newClient('client', { targets: '*' });
    const held = await Promise.all(TARGETS.map((target) => client.submit(target, 'hold', 10, 0.02)));
    let isStopped = false;
    const load = async (target: string) => {
      for (let n = 0; !isStopped; n += 1) {
        const { execution } = await client.submitUntilAccepted(target, 'write', 30 + (n % 5), 10, 0.005);
        await until('it to end', () => client.session.outcomeOf(execution) !== undefined, FAILOVER_MS);
      }
    };
    const loading = Promise.all(['loaded-1', 'loaded-2'].map(load));
    await until('lines of all', () => TARGETS.every((target) => client.session.lineCount(target) > 60));

    for (const [i, key] of primaries.entries()) {
      if (i > 0) await redis.restore();
      const told = client.next('to be told', ({ type }) => type === 'degraded');
      await redis.killPrimary(key);
      await told;
      await client.next('to be told', ({ type }) => type === 'restored', FAILOVER_MS);
      const seen = TARGETS.map((target) => client.session.lineCount(target));
      await until('more lines of all', () =>
        TARGETS.every((target, n) => client.session.lineCount(target) > (seen[n] ?? 0) + 100),
      );
    }
    isStopped = true;
    await loading;
    for (const { commandId } of held) await it.release(commandId);
    await it.verdict(`primaries of ${what} killed`, { timeoutMs: FAILOVER_MS });
    expect(held.map(({ execution }) => client.session.outcomeOf(execution))).toEqual(held.map(() => 'succeeded'));
    expect(client.connections).toBe(1);
  },
);

test.skipIf(noRedisServer() !== undefined)(
  'primaries of a Cluster that monitors write to are killed: workers are kept as declared, nodes stay known, and no command is given twice',
  async () => {
    const redis = await startCluster();
    onTestFinished(() => redis.stop(), 30_000);
    const it = await Installation.start({
      ...{ gateways: 1, runners: 1, monitors: 2, redisFlags: redis.flags },
      monitorFlags: ['--grpc-addr', '127.0.0.1:0', '--stale-timeout', '20s'],
      script: join(WORKSPACE, 'test/fixtures/fleet-worker.sh'),
      scriptEnv: { MOCK_WORKER_SPEED: '0' },
    });
    const folder = await mkdtemp(join(tmpdir(), 'carrierarr-failover-'));
    onTestFinished(() => rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 }));
    const addresses = await Promise.all(
      it.monitors.map((monitor) =>
        until('it to serve agents', () => /"(127\S+?)"[^\n]*"msg":"agents are served"/.exec(monitor.output())?.[1]),
      ),
    );
    const agent = startProgram({
      name: 'agent',
      args: [
        ...['agent', '-control-plane', addresses.join(','), '--node-id', 'node-1', '--allow-exec', 'sh'],
        ...['--state-dir', join(folder, 'agent'), '--health-port', '0', '--metadata', 'off'],
      ],
    });
    onTestFinished(() => agent.stop().then(() => undefined), 30_000);
    const { url } = it.gateway(0);
    const nodeIs = async () => {
      const answer = await fetch(`${url}/api/v1/nodes/node-1`);
      return answer.ok ? ((await answer.json()) as { liveness: string; stream_active: boolean }) : undefined;
    };
    const liveness = new Set<string>();
    const look = async () => {
      const node = await nodeIs();
      if (node !== undefined) liveness.add(node.liveness);
      return node;
    };
    await until('the node', async () => (await look())?.stream_active);
    const client = await it.newClient('client', { targets: '*' });
    const fleet = fleetOf(redis);
    const names = ['gpu-0', 'gpu-1', 'gpu-2'];
    await fleet.pool('gpu', { replicas: names.length });
    await fleet.settled(names, 'Running');

    const witness = join(folder, 'ran');
    let words = 0;
    for (const [i, key] of [keys.leader(), keys.nodesMeta()].entries()) {
      if (i > 0) await redis.restore();
      await redis.killPrimary(key);
      const { execution } = await client.submitUntilAccepted('gpu-1', 'stop');
      await until('the stop to end', () => client.session.outcomeOf(execution) === 'succeeded', FAILOVER_MS);
      const script = `echo word-${(words += 1)} >> ${witness}`;
      const ran = await client.submitUntilAccepted('node-1', 'exec', 'sh', '-c', script, COMMAND_ID);
      await until(
        'the command of the node',
        () => client.session.outcomeOf(ran.execution) === 'succeeded',
        FAILOVER_MS,
      );
      await until('it to be started again', async () => {
        await look();
        const executions = await fleet.executions();
        return executions.some(
          ({ target, command, id }) => target === 'gpu-1' && command === 'start' && id > execution,
        );
      });
      await fleet.settled(names, 'Running', FAILOVER_MS);
    }
    expect(doubled(await fleet.executions())).toEqual([]);
    expect(await readFile(witness, 'utf8')).toBe('word-1\nword-2\n');
    expect(await look()).toMatchObject({ stream_active: true });
    expect(liveness).toEqual(new Set(['healthy']));
  },
);
