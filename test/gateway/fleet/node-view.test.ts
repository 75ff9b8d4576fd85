/** What is told of nodes while a look at them takes long, and while Redis is away. */
import { EventEmitter } from 'node:events';
import { FakeClock } from '@carrierarr/platform';
import { Keys, type NodeRecord } from '@carrierarr/protocol';
import type { NodeFollow, NodeLookup, RedisConnection } from '@carrierarr/store';
import { beforeEach, expect, it } from 'vitest';
import { NODES_KEPT_MS, NodeView } from '../../../apps/gateway/src/fleet/node-view.js';
import { RedisAwayError, RedisHealth } from '../../../apps/gateway/src/redis-health.js';

let clock: FakeClock;
let redis: RedisHealth;
let answersPings: boolean;
/** Ends the look that is under way: with these nodes, by name. */
let found: (...names: string[]) => Promise<void>;
let view: NodeView;

beforeEach(async () => {
  clock = new FakeClock();
  answersPings = true;
  const keys = new Keys('test');
  const ping = () => (answersPings ? Promise.resolve('PONG') : new Promise(() => undefined));
  const connection = Object.assign(new EventEmitter(), { ping }) as unknown as RedisConnection;
  redis = new RedisHealth({ connection, keys, clock, logger: { info: () => undefined, warn: () => undefined } });
  await redis.start();
  const nodes = new Map<string, NodeRecord>();
  let end: () => void = () => undefined;
  found = async (...names) => {
    nodes.clear();
    for (const name of names) nodes.set(name, { key: name, name, seenMs: {} });
    end();
    await clock.advanceAsync(0);
  };
  const follow = {
    ...{ nodes, listening: {}, limits: { staleMs: 120_000, deadMs: 300_000 }, nowMs: 0, isStreaming: () => false },
    refresh: () => new Promise<void>((resolve) => (end = resolve)),
  };
  view = new NodeView({
    ...{ redis, clock, follow: follow as unknown as NodeFollow, lookup: {} as NodeLookup },
    workers: { workerOf: () => undefined, workersWithTarget: () => [] },
  });
});

/** Asks for all, and tells what came of it once something did. */
function ask(): () => string[] | string | undefined {
  let answer: string[] | string | undefined;
  view.nodes().then(
    (nodes) => (answer = nodes.map(({ record }) => record.name)),
    (error: Error) => (answer = error.name),
  );
  return () => answer;
}

it('waits for a look that takes long while Redis answers, and tells nobody what was there before', async () => {
  const first = ask();
  await found();
  expect(first()).toEqual([]);
  await clock.advanceAsync(5_000);

  const second = ask();
  await clock.advanceAsync(8_000);
  expect(second()).toBeUndefined();
  const third = ask();
  await found('a', 'b');
  expect([second(), third()]).toEqual([
    ['a', 'b'],
    ['a', 'b'],
  ]);
});

it('tells what was there before when Redis goes away while it looks, for a minute and no longer', async () => {
  ask();
  await found('a');
  await clock.advanceAsync(5_000);
  answersPings = false;
  const looking = ask();
  await clock.advanceAsync(2_000);
  expect(redis.state.kind).toBe('degraded');
  expect(looking()).toEqual(['a']);

  await clock.advanceAsync(NODES_KEPT_MS);
  const late = ask();
  await clock.advanceAsync(0);
  expect(late()).toBe(RedisAwayError.name);
});
