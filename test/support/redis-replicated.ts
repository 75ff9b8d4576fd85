/**
 * Redis that outlives its primary, for tests: a Cluster, or a primary and a replica that Sentinels watch. All on loopback,
 * with timeouts of a second, so that a replica takes over within a few.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cluster, Redis } from 'ioredis';
import { freePort, startRedis, type TestRedis } from './redis.js';
import { until } from './until.js';

export interface ReplicatedRedis {
  /** How a program reaches it. */
  readonly flags: readonly string[];
  /** A connection for the test's own looks; closed by {@link ReplicatedRedis.stop}. */
  client(): Redis | Cluster;
  /** Ends the primary of a key with SIGKILL, and resolves once its replica has taken over. */
  killPrimary(key: string): Promise<void>;
  /** Starts that server again; resolves once it is a replica that knows all that its primary knows. */
  restore(): Promise<void>;
  stop(): Promise<void>;
}

const TIMEOUT_MS = 1_000;
const TAKE_OVER_MS = 30_000;
const SLOTS = 16_384;
const PRIMARIES = 3;
const SENTINELS = 3;
const SENTINEL_NAME = 'fleet';

/** Three primaries with a replica each. */
export async function startCluster(): Promise<ReplicatedRedis> {
  const busPorts = new Map<TestRedis, number>();
  const servers = await Promise.all(
    Array.from({ length: 2 * PRIMARIES }, async () => {
      // By default the bus takes a port 10,000 higher, which may not exist.
      const busPort = await freePort();
      const cluster = ['--cluster-enabled', 'yes', '--cluster-port', `${busPort}`];
      const server = await startRedis({
        appendOnly: true,
        args: [...cluster, '--cluster-node-timeout', `${TIMEOUT_MS}`, ...SYNCED_AT_ONCE],
      });
      busPorts.set(server, busPort);
      return server;
    }),
  );
  const looks = new Map(servers.map((server) => [server, server.client()]));
  const ask = (server: TestRedis, ...args: (string | number)[]) =>
    (looks.get(server) as Redis).call('CLUSTER', ...args.map(String));
  const [first, ...others] = servers as [TestRedis, ...TestRedis[]];
  for (const [i, server] of servers.slice(0, PRIMARIES).entries()) {
    const [from, to] = [i, i + 1].map((n) => Math.ceil((n * SLOTS) / PRIMARIES)) as [number, number];
    await ask(server, 'ADDSLOTSRANGE', from, to - 1);
  }
  for (const other of others) await ask(first, 'MEET', '127.0.0.1', other.port, busPorts.get(other) as number);
  for (const [i, replica] of servers.slice(PRIMARIES).entries()) {
    const id = String(await ask(servers[i] as TestRedis, 'MYID'));
    await until('a replica to know its primary', async () => String(await ask(replica, 'NODES')).includes(id));
    await ask(replica, 'REPLICATE', id);
  }
  const isOk = async (server: TestRedis) => {
    const info = String(await ask(server, 'INFO').catch(() => ''));
    return info.includes('cluster_state:ok') && info.includes(`cluster_slots_ok:${SLOTS}`);
  };
  const living = new Set(servers);
  const isWhole = async () => (await Promise.all([...living].map(isOk))).every(Boolean);
  await until('the Cluster to be whole', isWhole, TAKE_OVER_MS);
  await until('all replicas to be in step', async () => {
    const isInStep = await Promise.all(
      servers.slice(PRIMARIES).map((server) => isInStepWithPrimary(looksAt(looks, server))),
    );
    return isInStep.every(Boolean);
  });

  const clients: Cluster[] = [];
  let killed: TestRedis | undefined;
  return {
    flags: ['--redis-mode', 'cluster', '--redis-nodes', servers.map(({ port }) => `127.0.0.1:${port}`).join(',')],
    client() {
      const client = new Cluster(servers.map(({ port }) => ({ host: '127.0.0.1', port })));
      client.on('error', () => undefined);
      clients.push(client);
      return client;
    },
    async killPrimary(key) {
      const observer = [...living][0] as TestRedis;
      const slot = Number(await ask(observer, 'KEYSLOT', key));
      const port = await ownerOf(slot, () => ask(observer, 'SLOTS'));
      killed = servers.find((server) => server.port === port) as TestRedis;
      living.delete(killed);
      await killed.kill();
      await until(
        'a replica to take over',
        async () =>
          (await ownerOf(slot, () => ask([...living][0] as TestRedis, 'SLOTS'))) !== port && (await isWhole()),
        TAKE_OVER_MS,
      );
    },
    async restore() {
      const server = killed as TestRedis;
      await server.start();
      living.add(server);
      await until('it to be in step', () => isInStepWithPrimary(looksAt(looks, server)), TAKE_OVER_MS);
    },
    async stop() {
      for (const client of clients) client.disconnect();
      await Promise.all(servers.map((server) => server.stop()));
    },
  };
}

/** A primary, a replica, and three Sentinels. */
export async function startSentinels(): Promise<ReplicatedRedis> {
  const dir = await mkdtemp(join(tmpdir(), 'carrierarr-sentinel-'));
  const primary = await startRedis({ appendOnly: true, args: SYNCED_AT_ONCE });
  const replica = await startRedis({
    appendOnly: true,
    args: ['--replicaof', `127.0.0.1 ${primary.port}`, ...SYNCED_AT_ONCE],
  });
  const looks = new Map([primary, replica].map((server) => [server, server.client()]));
  await until('the replica to be in step', () => isInStepWithPrimary(looksAt(looks, replica)));
  const quorum = Math.floor(SENTINELS / 2) + 1;
  const sentinels = await Promise.all(
    Array.from({ length: SENTINELS }, async (_, i) => {
      const configFile = join(dir, `${i}.conf`);
      const lines = [
        `sentinel monitor ${SENTINEL_NAME} 127.0.0.1 ${primary.port} ${quorum}`,
        `sentinel down-after-milliseconds ${SENTINEL_NAME} ${TIMEOUT_MS}`,
        `sentinel failover-timeout ${SENTINEL_NAME} ${5 * TIMEOUT_MS}`,
      ];
      await writeFile(configFile, lines.map((line) => `${line}\n`).join(''));
      return startRedis({ configFile, args: ['--sentinel'] });
    }),
  );
  const ask = (sentinel: TestRedis, client: Redis, what: string) =>
    client.call('SENTINEL', what, SENTINEL_NAME).then((answer) => ({ sentinel, answer }));
  const watchers = new Map(sentinels.map((sentinel) => [sentinel, sentinel.client()]));
  const primaryPorts = () =>
    Promise.all(
      [...watchers].map(async ([sentinel, client]) => {
        const { answer } = await ask(sentinel, client, 'GET-MASTER-ADDR-BY-NAME');
        return Number((answer as string[])[1]);
      }),
    );
  await until(
    'Sentinels to know each other and the replica',
    async () => {
      const answers = await Promise.all(
        [...watchers].map(([sentinel, client]) => ask(sentinel, client, 'CKQUORUM').catch(() => undefined)),
      );
      const replicas = await Promise.all([...watchers].map(([sentinel, client]) => ask(sentinel, client, 'REPLICAS')));
      return (
        answers.every((each) => String(each?.answer).startsWith(`OK ${SENTINELS} usable`)) &&
        replicas.every(({ answer }) => (answer as unknown[]).length === 1)
      );
    },
    TAKE_OVER_MS,
  );

  const nodes = sentinels.map(({ port }) => ({ host: '127.0.0.1', port }));
  const clients: Redis[] = [];
  let killed: TestRedis | undefined;
  return {
    flags: [
      ...['--redis-mode', 'sentinel', '--redis-sentinel-name', SENTINEL_NAME],
      ...['--redis-nodes', nodes.map(({ host, port }) => `${host}:${port}`).join(',')],
    ],
    client() {
      const client = new Redis({ sentinels: nodes, name: SENTINEL_NAME });
      client.on('error', () => undefined);
      clients.push(client);
      return client;
    },
    async killPrimary() {
      const [port] = await primaryPorts();
      killed = [primary, replica].find((server) => server.port === port) as TestRedis;
      await killed.kill();
      await until(
        'all Sentinels to name the other',
        async () => (await primaryPorts()).every((named) => named !== port),
        TAKE_OVER_MS,
      );
    },
    async restore() {
      const server = killed as TestRedis;
      await server.start();
      // It comes back as a primary, until a Sentinel tells it whose replica it is.
      await until('it to be in step', () => isInStepWithPrimary(looksAt(looks, server)), TAKE_OVER_MS);
    },
    async stop() {
      for (const client of clients) client.disconnect();
      await Promise.all([...sentinels, primary, replica].map((server) => server.stop()));
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** A replica gets its first copy at once, not after waiting for others that might want one too. */
const SYNCED_AT_ONCE = ['--repl-diskless-sync-delay', '0'];

function looksAt(looks: ReadonlyMap<TestRedis, Redis>, server: TestRedis): Redis {
  return looks.get(server) as Redis;
}

async function isInStepWithPrimary(look: Redis): Promise<boolean> {
  const info = await look.info('replication').catch(() => '');
  return info.includes('role:slave') && info.includes('master_link_status:up');
}

/** Port of the primary that has a slot, as one server tells it. */
async function ownerOf(slot: number, slots: () => Promise<unknown>): Promise<number | undefined> {
  const ranges = (await slots().catch(() => [])) as [from: number, to: number, primary: [string, number]][];
  return ranges.find(([from, to]) => slot >= from && slot <= to)?.[2][1];
}
