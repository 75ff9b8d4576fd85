import { FakeClock } from '@carrierarr/platform';
import { Keys } from '@carrierarr/protocol';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { NodeTargets } from '../../../apps/monitor/src/agents/node-targets.js';
import { startRedis, type TestRedis } from '../../support/redis.js';

let redis: TestRedis;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

it('a node has the target of the worker record with its instance id, else its name, and learns of another in time', async () => {
  const [connection, keys, clock] = [redis.client(), new Keys('t'), new FakeClock()];
  const record = (target: string) =>
    JSON.stringify({
      ...{ id: 'i-1', provider: 'ec2', state: 'running', target, mapped_by: 'tag:Name', source: 'ec2/x' },
    });
  await connection.hset(keys.workers(), 'i-1', record('gpu-1'), 'i-2', 'nonsense');
  const targets = new NodeTargets({ connection, keys, clock });
  const nodes = ['i-1', 'i-2', 'i-3'].map((key) => ({ key, name: `host of ${key}` }));
  expect(await targets.ofAll(nodes)).toEqual(['gpu-1', 'host of i-2', 'host of i-3']);
  await connection.hset(keys.workers(), 'i-1', record('gpu-2'), 'i-3', record('gpu-3'));
  expect(await targets.ofAll(nodes)).toEqual(['gpu-1', 'host of i-2', 'host of i-3']);
  clock.advance(10_000);
  expect(await targets.ofAll(nodes)).toEqual(['gpu-2', 'host of i-2', 'gpu-3']);
});
