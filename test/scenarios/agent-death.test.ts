/**
 * An agent that is killed, and one that is frozen: stale, then dead, each at its time and not earlier; one that thaws is back. One that
 * stops is gone, also if its connection breaks meanwhile.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { type Program, startGateway, startMonitor, startProgram } from '../support/programs.js';
import { startRedis } from '../support/redis.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';

const STALE_MS = 4_000;
const DEAD_MS = 8_000;
/** Gateways look at what changed so often at most. */
const LAG_MS = 1_000;
const AGENTS = /"address":"(127\.0\.0\.1:\d+)"[^\n]*"msg":"agents are served"/;

interface NodeRow {
  id: string;
  liveness: string;
  last_seen: string;
}

async function site() {
  const redis = await startRedis();
  const folder = await mkdtemp(join(tmpdir(), 'carrierarr-agent-death-'));
  const programs: Program[] = [];
  onTestFinished(async () => {
    await Promise.all(programs.map((program) => program.kill()));
    await redis.stop();
    await rm(folder, { recursive: true, force: true });
  });
  const started = async (program: Program) => {
    programs.push(program);
    await program.ready();
    return program;
  };
  const gateway = await started(startGateway({ name: 'gateway', redisUrl: redis.url }));
  const flags = ['--grpc-addr', '127.0.0.1:0', '--agent-status-interval', '1s', '--agent-heartbeat-interval', '1s'];
  flags.push('-stale-timeout', `${STALE_MS}ms`, '-dead-threshold', `${DEAD_MS}ms`);
  return {
    monitor: async (name: string) => {
      const program = await started(startMonitor({ name, redisUrl: redis.url, flags }));
      return { program, address: await until('where it serves agents', () => AGENTS.exec(program.output())?.[1]) };
    },
    agent: (node: string, ...addresses: string[]) =>
      started(
        startProgram({
          name: node,
          args: [
            ...['agent', '-control-plane', addresses.join(','), '--node-id', node, '--state-dir', join(folder, node)],
            ...['--health-port', '0', '--metadata', 'off', '--log-format', 'json'],
          ],
          listens: /"address":"127\.0\.0\.1:(\d+)","msg":"health/,
        }),
      ),
    nodes: async () => (await (await fetch(`${gateway.url}/api/v1/nodes`)).json()) as NodeRow[],
  };
}

it('is stale and then dead at the set times, killed or frozen, and back when it thaws', async () => {
  const { monitor, agent: agentAt, nodes } = await site();
  const { address } = await monitor('monitor');
  const agent = (node: string) => agentAt(node, address);
  const [killed, frozen] = [await agent('killed'), await agent('frozen')];

  const all = (liveness: string) => async () => {
    const found = await nodes();
    return found.length === 2 && found.every((node) => node.liveness === liveness);
  };
  await until('both to be healthy', all('healthy'));
  // One that is stopped is not dead: it is gone, at once.
  const stopped = await agent('stopped');
  await until('the third', async () => (await nodes()).length === 3);
  await stopped.stop();
  await until('the third to be gone', async () => (await nodes()).length === 2, STALE_MS);
  await killed.kill();
  frozen.freeze();

  const told = new Map([
    ['killed', ['healthy']],
    ['frozen', ['healthy']],
  ]);
  const wrong: string[] = [];
  await until(
    'both to be dead',
    async () => {
      const askedMs = Date.now();
      const found = await nodes();
      const answeredMs = Date.now();
      for (const { id, liveness, last_seen } of found) {
        const seenMs = Date.parse(last_seen);
        const states = told.get(id);
        if (states?.at(-1) !== liveness) states?.push(liveness);
        // Not too early, as of the answer; and not too late, as of the question.
        const atLeastMs = { healthy: 0, stale: STALE_MS, dead: DEAD_MS }[liveness];
        const atMostMs = { healthy: STALE_MS, stale: DEAD_MS, dead: Infinity }[liveness] ?? 0;
        const isEarly = answeredMs - seenMs < (atLeastMs ?? Infinity);
        const isLate = askedMs - seenMs >= atMostMs + LAG_MS;
        if (isEarly || isLate) wrong.push(`${id} ${liveness} after ${answeredMs - seenMs} ms`);
      }
      return found.every(({ liveness }) => liveness === 'dead');
    },
    60_000,
  );
  expect(wrong).toEqual([]);
  expect([...told]).toEqual([
    ['killed', ['healthy', 'stale', 'dead']],
    ['frozen', ['healthy', 'stale', 'dead']],
  ]);

  frozen.thaw();
  await until(
    'the one that thawed to be back',
    async () => (await nodes()).some(({ id, liveness }) => id === 'frozen' && liveness === 'healthy'),
    60_000,
  );
  expect((await nodes()).find(({ id }) => id === 'killed')?.liveness).toBe('dead');
});

it('is gone when it stops, though the connection breaks that it says so over', async () => {
  const { monitor, agent, nodes } = await site();
  const { address } = await monitor('monitor');
  const proxy = await startTcpProxy(Number(address.split(':')[1]));
  onTestFinished(() => proxy.stop());
  const stopped = await agent('stopped', `127.0.0.1:${proxy.port}`);
  await until('it to be known', async () => (await nodes())[0]?.liveness === 'healthy');
  proxy.hold();
  const stopping = stopped.stop();
  await until('it to stop', () => stopped.output().includes('"msg":"stopping"'));
  proxy.mend();
  const states = new Set<string>();
  await until('it to be gone', async () => {
    const [node] = await nodes();
    if (node !== undefined) states.add(node.liveness);
    return node === undefined;
  });
  await stopping;
  expect([...states].filter((state) => state !== 'healthy')).toEqual([]);
});
