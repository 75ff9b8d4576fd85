/** What a leader does about nodes, over a real Redis: rows, failovers, and the end of the dead. */
import type { NodeStatusRecord, WorkerRecord } from '@carrierarr/protocol';
import { NodeFollow } from '@carrierarr/store';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { until } from '../../support/until.js';
import { EC2, installation, machine, type TestInstallation } from '../reconciler/support.js';

let redis: TestRedis;
let site: TestInstallation;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());
beforeEach(async () => {
  site = await installation(redis);
  // As if monitors had listened without a pause, and did for ever.
  await site.connection.hset(site.keys.listening(), { grpc: `1 ${2 ** 52}`, amqp: `1 ${2 ** 52}` });
});
afterEach(() => site.stop());

const SHORT = { staleMs: 100, deadMs: 300 };

async function joins(name: string, instance = '') {
  await site.registry.register(
    name,
    {
      ...{ type: 'NODE_TYPE_GPU_WORKER', instance_id: instance, nebula_ip: '', public_ip: '', region: '', az: '' },
      ...{ labels: {}, features: [], agent_version: '1.2.3', registered_ms: Date.now() },
    },
    'grpc',
  );
  const stream = await site.registry.openStream(name, undefined, 'm1');
  if (stream.kind !== 'open') throw new Error(stream.kind);
  return {
    says: (fields: Partial<NodeStatusRecord> = {}) =>
      site.registry.status(stream.key, stream.fence, {
        ...{ health: 'HEALTH_STATE_HEALTHY', uptime_seconds: 1, idle_seconds: 0, services: {}, gpus: [], models: [] },
        ...{ draining: false, received_ms: Date.now() },
        ...fields,
      }),
    leaves: () => site.registry.closeStream(stream.key, stream.fence),
  };
}
const rows = async () => (await site.status.read(Date.now())).workers;
const row = async (id: string) => (await rows()).find((each) => each.id === id);
const rowWith = (id: string, fits: (record: WorkerRecord) => boolean) =>
  until(`the row ${id}`, async () => {
    const found = await row(id);
    return found !== undefined && fits(found) && found;
  });
const endings = async () =>
  (await site.history.list({ limit: 100 })).executions.filter(({ subject }) => subject === 'system:monitor');

describe('a machine with an agent', () => {
  it('is one row, which keeps what either says through polls, also when another leads', async () => {
    const term = await site.lead();
    await term.poll([machine('w1', 'running', { health_check: 'ok' })]);
    const agent = await joins('host-1', 'i-w1');
    await agent.says({ idle_seconds: 600 });
    const first = await rowWith('i-w1', (record) => record.idle_since !== undefined);
    expect(first).toMatchObject({
      source: EC2,
      target: 'w1',
      health_check: 'healthy',
      agent: { node: 'host-1', version: '1.2.3' },
    });
    await term.poll([machine('w1', 'running', { health_check: 'impaired', private_ip: '10.0.0.1' })]);
    expect(await row('i-w1')).toMatchObject({
      ...{ private_ip: '10.0.0.1', health_check: 'healthy', idle_since: first.idle_since },
      agent: { instead_of: { health_check: 'impaired' } },
    });
    expect((await rows()).map(({ id }) => id)).toEqual(['i-w1']);
    const { version } = await site.status.read(Date.now());
    await term.end();

    const next = await site.lead();
    await next.poll([]);
    // What the source said itself is what the next poll is compared with.
    expect(next.restored()).toMatchObject([{ id: 'i-w1', health_check: 'impaired' }]);
    expect(next.restored()[0]).not.toHaveProperty('agent');
    expect(next.restored()[0]).not.toHaveProperty('idle_since');
    expect((await site.status.read(Date.now())).version).toBe(version);
  });

  it('has a row of its own while no source knows it, which goes with it', async () => {
    const term = await site.lead();
    const agent = await joins('bare-1');
    await rowWith('bare-1', ({ source, agent: said }) => source === 'agents' && said?.liveness === 'healthy');
    const { sources } = await site.status.read(Date.now());
    expect(sources.find(({ source }) => source === 'agents')).toMatchObject({ ok: true, workers: 1 });
    expect(await row('bare-1')).not.toHaveProperty('stale');
    await agent.leaves();
    expect(await site.registry.deregister('bare-1')).toBe('removed');
    await until('its row to be gone', async () => (await row('bare-1')) === undefined);
    expect(await term.metric('carrierarr_monitor_node_events_total', { kind: 'left' })).toBe(1);
  });

  it('has a row of its own again once its source is not polled any more, and keeps it', async () => {
    const term = await site.lead();
    const report = { source: 'ec2/gone-1', ok: true, polled_at: new Date().toISOString(), interval_ms: 30_000 };
    const upserts = [{ ...machine('w1'), source: 'ec2/gone-1' }];
    await site.status.publish(term.fence, { report: { ...report, calls: 1, workers: 1 }, upserts, removed: [] });
    await term.end();
    await site.lead();
    const agent = await joins('host-1', 'i-w1');
    await rowWith('i-w1', ({ source }) => source === 'agents');
    await agent.says({ draining: true });
    expect(await rowWith('i-w1', ({ agent: said }) => said?.draining === true)).toMatchObject({ source: 'agents' });
  });

  it('is stopped by its idleness, as the agent says it, and not by that of one that is silent', async () => {
    await site.desired.worker('w1', { idleStopAfter: '15m' });
    await site.desired.worker('w2', { idleStopAfter: '15m' });
    const idle = { idle_seconds: 3_600 };
    const [one, two] = [await joins('host-1', 'i-w1'), await joins('host-2', 'i-w2')];
    await one.says(idle);
    await two.says(idle);
    // It said so for the last time longer ago than the limit.
    await site.connection.zadd(site.keys.nodesSeen('grpc'), Date.now() - 150_000, 'i-w2');
    const term = await site.lead();
    await rowWith('i-w2', ({ agent }) => agent?.liveness === 'stale');
    await term.poll([machine('w1'), machine('w2')]);
    expect((await site.runNext('w1')).command).toBe('stop');
    await term.quiet();
    expect((await site.desired.executions()).map(({ target }) => target)).toEqual(['w1']);
  });
});

describe('a dead node', () => {
  it('is told of, and is not ended unless that is asked for', async () => {
    const term = await site.lead({ nodes: { limits: SHORT } });
    // From 0 on: Prometheus sees no increase in a count that begins with the first event.
    expect(await term.metric('carrierarr_monitor_node_events_total', { kind: 'dead' })).toBe(0);
    await joins('bare-1');
    await rowWith('bare-1', ({ state }) => state === 'unreachable');
    expect(await term.metric('carrierarr_monitor_nodes', { liveness: 'dead' })).toBe(1);
    expect(await endings()).toEqual([]);
  });

  it('is ended once by its target, whoever leads, and again when it dies again', async () => {
    await site.desired.worker('w1');
    const agent = await joins('host-1', 'i-w1');
    await agent.leaves();
    const ending = { nodes: { limits: SHORT, isEndingDead: true } };
    const term = await site.lead(ending);
    await term.poll([machine('w1')]);
    const [given] = await until('it to be ended', async () => (await endings()).length > 0 && endings());
    expect(given).toMatchObject({ target: 'w1', command: 'terminate', gateway: 'monitor' });
    expect(given?.executor).toBeUndefined();
    const events = await until('the event', async () =>
      (await site.desired.events.list('Worker', 'w1')).find(({ reason }) => reason === 'AgentDead'),
    );
    expect(events.message).toContain(given!.id);
    await term.end();
    const next = await site.lead(ending);
    await next.poll([]);
    await until(
      'it to be dead for the next leader, too',
      async () => (await next.metric('carrierarr_monitor_nodes', { liveness: 'dead' })) === 1,
    );
    expect(await next.metric('carrierarr_monitor_dead_nodes_ended_total')).toBeUndefined();
    expect(await endings()).toHaveLength(1);

    await site.registry.beat('host-1');
    await until('it to be ended anew', async () => (await endings()).length === 2);
  });

  it('is not ended while a machine of its target lives, and is once that is gone', async () => {
    await (await joins('host-1', 'i-w1')).leaves();
    const term = await site.lead({ nodes: { limits: SHORT, isEndingDead: true } });
    // What a script tells of the target is no machine of its own.
    await term.poll(
      [machine('w1', 'running', { id: 'script:w1', source: 'script', provider: 'script' })],
      [],
      'script',
    );
    await term.poll([machine('w1'), machine('w1', 'stopped', { id: 'i-other' })]);
    await until('it to be passed over', async () => {
      const ended = { verb: 'terminate', answer: 'shared' };
      return (await term.metric('carrierarr_monitor_dead_nodes_ended_total', ended)) !== undefined;
    });
    expect(await endings()).toEqual([]);
    await term.poll([], ['i-other']);
    // It is tried again each ten seconds.
    const [given] = await until('it to be ended', async () => (await endings()).length > 0 && endings(), 30_000);
    expect(given).toMatchObject({ target: 'w1', command: 'terminate' });
  }, 40_000);

  it('with a stream that somebody serves is told to shut down', async () => {
    await joins('host-1', 'i-w1');
    await site.connection.zadd(site.keys.servingMonitors(), Date.now() + 3_600_000, 'm1');
    const term = await site.lead({ nodes: { limits: SHORT, isEndingDead: true } });
    await term.poll([machine('w1')]);
    const [given] = await until('it to be ended', async () => (await endings()).length > 0 && endings());
    expect(given).toMatchObject({ target: 'w1', command: 'shutdown', executor: 'agent' });
  });

  it('is stale, and never dead, where no monitor serves agents', async () => {
    await site.connection.del(site.keys.listening());
    await (await joins('host-1', 'i-w1')).leaves();
    const term = await site.lead({ nodes: { limits: SHORT, isEndingDead: true } });
    await term.poll([machine('w1')]);
    await rowWith('i-w1', ({ agent }) => agent?.liveness === 'stale');
    const [since] = (await site.connection.hget(site.keys.listening(), 'none'))!.split(' ').map(Number);
    await until('more time than makes one dead', () => Date.now() - since! > 3 * SHORT.deadMs);
    await term.poll([machine('w1')]);
    expect((await row('i-w1'))?.agent?.liveness).toBe('stale');
    expect(await endings()).toEqual([]);
    const follow = new NodeFollow({ connection: site.connection, keys: site.keys });
    await follow.refresh();
    expect(follow.listening).toEqual({ none: since });
  });

  it('stays what it was while a monitor would hear it, and cannot now', async () => {
    await site.connection.del(site.keys.listening());
    await site.connection.zadd(site.keys.servingMonitors(), Date.now() + 3_600_000, 'm2');
    await (await joins('host-1', 'i-w1')).leaves();
    const term = await site.lead({ nodes: { limits: SHORT } });
    const joinedMs = Date.now();
    await term.poll([machine('w1')]);
    await until('more time than makes one dead', () => Date.now() - joinedMs > 3 * SHORT.deadMs);
    await term.poll([machine('w1')]);
    expect((await row('i-w1'))?.agent?.liveness).toBe('healthy');
    expect(await site.connection.exists(site.keys.listening())).toBe(0);
  });

  it('is dead to everybody by the limits of the leader', async () => {
    const follow = new NodeFollow({ connection: site.connection, keys: site.keys });
    const limitsAre = (limits: typeof SHORT) =>
      until('the limits', async () => {
        await follow.refresh();
        return follow.limits.staleMs === limits.staleMs && follow.limits.deadMs === limits.deadMs;
      });
    await site.lead({ nodes: { limits: SHORT } });
    await limitsAre(SHORT);
    // Lost by Redis.
    await site.connection.hdel(site.keys.nodesMeta(), 'limits');
    await limitsAre(SHORT);
  });

  it('is not ended when many died at once, and that is told', async () => {
    for (const name of ['a', 'b', 'c', 'd', 'e']) await (await joins(name)).leaves();
    const term = await site.lead({ nodes: { limits: SHORT, isEndingDead: true } });
    await until(
      'all to be dead',
      async () => (await term.metric('carrierarr_monitor_nodes', { liveness: 'dead' })) === 5,
    );
    expect(await term.metric('carrierarr_monitor_mass_death')).toBe(1);
    expect(await endings()).toEqual([]);
  });

  it('is ended by nobody who leads no more', async () => {
    await (await joins('host-1', 'i-w1')).leaves();
    const old = await site.lead({ nodes: { limits: { staleMs: 100, deadMs: 2_500 }, isEndingDead: true } });
    await old.poll([machine('w1')]);
    await site.lead({ nodes: { limits: { staleMs: 60_000, deadMs: 60_000 } } });
    await until('the old leader to notice', () => old.deposedBy());
    expect(await endings()).toEqual([]);
  });
});
