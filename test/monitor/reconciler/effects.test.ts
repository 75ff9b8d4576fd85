/** Changes of one term over a real Redis, decided on what others change at the same time. */
import { createLogger, createMetrics } from '@carrierarr/platform';
import type { WorkerResource } from '@carrierarr/protocol';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Effects } from '../../../apps/monitor/src/reconciler/effects.js';
import { createReconcileMetrics } from '../../../apps/monitor/src/reconciler/metrics.js';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { until } from '../../support/until.js';
import { installation, type TestInstallation } from './support.js';

let redis: TestRedis;
let site: TestInstallation;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());
beforeEach(async () => {
  site = await installation(redis);
});
afterEach(() => site.stop());

/** What a leader that began its term now would change things by. */
async function leadersEffects(): Promise<Effects> {
  const { fence } = await site.lead({ isReconciling: false });
  const metrics = createMetrics({ program: 'test', version: 'test', hasProcessMetrics: false });
  return new Effects({
    ...{ fence, signal: new AbortController().signal, fleet: site.fleet, resources: site.resources },
    ...{ commands: site.commands, drain: { add: async () => undefined }, events: site.desired.events },
    ...{ monitor: 'monitor', metrics: createReconcileMetrics(metrics, 1) },
    logger: createLogger({ program: 'test', level: 'silent' }),
  });
}

const known = (name: string, uid: string) =>
  until(`${name} to be known`, () => {
    const worker = site.fleet.get('Worker', name);
    return worker?.metadata.uid === uid && worker;
  });

/** Another one takes the name of a Worker, and the fleet has heard of it. */
async function makeAnew(old: WorkerResource): Promise<WorkerResource> {
  const { name, resourceVersion } = old.metadata;
  expect(await site.resources.remove('Worker', name, resourceVersion)).toEqual({ kind: 'ok' });
  const anew = { ...old, metadata: { ...old.metadata, uid: 'anew' } };
  await site.resources.put(anew, '0');
  return known(name, 'anew');
}

describe('removing a Worker', () => {
  it('leaves the one that was made anew under its name, also if that is known already', async () => {
    const effects = await leadersEffects();
    await site.desired.worker('w1');
    const old = await until('w1 to be known', () => site.fleet.get('Worker', 'w1'));
    const anew = await makeAnew(old);
    expect(await effects.remove(old)).toBe('conflict');
    expect((await site.resources.get('Worker', 'w1'))?.metadata.uid).toBe('anew');
    expect(site.fleet.get('Worker', 'w1')).toEqual(anew);
  });

  it('leaves one that was changed since that was decided, and knows it then', async () => {
    const effects = await leadersEffects();
    await site.desired.worker('w1');
    const old = await until('w1 to be known', () => site.fleet.get('Worker', 'w1'));
    const changed = { ...old, metadata: { ...old.metadata, labels: { env: 'prod' } } };
    await site.resources.put(changed, old.metadata.resourceVersion);
    await until('the change to be known', () => site.fleet.get('Worker', 'w1')?.metadata.labels['env'] === 'prod');
    expect(await effects.remove(old)).toBe('conflict');
    expect((await site.resources.get('Worker', 'w1'))?.metadata.labels).toEqual({ env: 'prod' });
  });

  it('forgets it, and not the one that was made and heard of while the answer was on its way', async () => {
    await site.desired.worker('w1');
    const old = await until('w1 to be known', () => site.fleet.get('Worker', 'w1'));
    const effects = await leadersEffects();
    const { resources } = site;
    const remove = resources.remove.bind(resources);
    resources.remove = async (...given) => {
      const answer = await remove(...given);
      await resources.put({ ...old, metadata: { ...old.metadata, uid: 'anew' } }, '0');
      await known('w1', 'anew');
      return answer;
    };
    expect(await effects.remove(old)).toBe('removed');
    expect(site.fleet.get('Worker', 'w1')?.metadata.uid).toBe('anew');
  });
});
