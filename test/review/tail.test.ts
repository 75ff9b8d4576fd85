import { partitionOf } from '@carrierarr/protocol';
import { defineScripts } from '@carrierarr/store';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import { startRedis, type TestRedis } from '../support/redis.js';
import { FakeSocket, gate, HandClock, keys, makeGateway, pause, writer } from './harness.js';

let redis: TestRedis;
let commands: Redis;
const stops: (() => void)[] = [];
beforeAll(async () => {
  redis = await startRedis({ appendOnly: true });
  commands = redis.client();
  defineScripts(commands);
});
afterAll(() => redis.stop());
beforeEach(() => commands.flushall());
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});
async function gateway(options: Parameters<typeof makeGateway>[1] = {}) {
  const g = await makeGateway(redis, options);
  stops.push(g.stop);
  return g;
}
const P = partitionOf('a');
const same = Array.from({ length: 5000 }, (_, i) => `n${i}`).filter((n) => partitionOf(n) === P);

it('S10 a named subscription to a target unknown so far takes no line from watchers of everything', async () => {
  const clock = new HandClock();
  const { fanout, log } = await gateway({ clock });
  const a = await writer(commands, 'a'); // started event: nobody watches
  const socket = new FakeSocket();
  const all = fanout.add(socket);
  fanout.watchEverything(all, 'implicit');
  await fanout.everythingReady;
  const g = gate(log, 'read');
  const joining = fanout.feed('a');
  await g.waiting;
  await a.write(2); // while the newcomer finds out where the log ends
  await pause(50);
  g.open();
  const named = new FakeSocket();
  fanout.join(fanout.add(named), await joining);
  await a.write(1);
  await pause(100);
  for (let i = 0; i < 3; i++) {
    clock.audit();
    await pause(50);
  }
  expect(socket.lines('a')).toEqual(['a#1', 'a#2', 'a#3']);
});

it('S1 a new target whose first line comes while its partition is repaired is not lost', async () => {
  const clock = new HandClock();
  const { fanout, log, subscriber } = await gateway({ clock });
  const socket = new FakeSocket();
  fanout.watchEverything(fanout.add(socket), 'implicit');
  await fanout.everythingReady;
  const [x, y, z] = same as [string, string, string];
  const a = await writer(commands, x);
  await a.write(1);
  await vi.waitFor(() => expect(socket.lines()).toHaveLength(1));
  // A message is lost, a later one shows it.
  await subscriber.sunsubscribe(keys.partitionChannel(P));
  const b = await writer(commands, y);
  await b.write(1);
  await subscriber.ssubscribe(keys.partitionChannel(P));
  const g = gate(log, 'changedSince', () => true, true);
  await a.write(1);
  await g.waiting;
  const c = await writer(commands, z); // meets the partition in repair
  await c.write(1);
  await pause(50);
  g.open();
  await pause(100);
  for (let i = 0; i < 4; i++) {
    clock.audit();
    await pause(50);
  }
  expect(socket.lines(x)).toEqual(a.written);
  expect(socket.lines(y)).toEqual(b.written);
  expect(socket.lines(z)).toEqual(c.written);
});

it('S19 a page of a lost epoch is not served for ever', async () => {
  const clock = new HandClock();
  const { fanout } = await gateway({ clock, recentBytesMax: 0 });
  const a = await writer(commands, 'a');
  for (let i = 0; i < 10; i++) await a.write(1);
  const one = new FakeSocket();
  const first = fanout.add(one);
  fanout.join(first, await fanout.feed('a'), 0);
  await vi.waitFor(() => expect(one.lines()).toHaveLength(10));
  await commands.flushall();
  const b = await writer(commands, 'a');
  for (let i = 0; i < 5; i++) await b.write(1);
  await vi.waitFor(() => expect(one.lines()).toHaveLength(15), { timeout: 3000 });
  const two = new FakeSocket();
  fanout.join(fanout.add(two), await fanout.feed('a'), 0);
  await vi.waitFor(() => expect(two.lines()).toEqual(b.written), { timeout: 3000 });
});

it('S8 a feed is not forgotten under a subscription that is under way', async () => {
  const clock = new HandClock();
  const { fanout, tail } = await gateway({ clock });
  const a = await writer(commands, 'a');
  await a.write(1);
  const early = fanout.add(new FakeSocket());
  fanout.join(early, await fanout.feed('a'));
  fanout.remove(early);
  clock.skewMs += 40_000; // quiet; the sweep has yet to come
  // As Subscriptions does for `tail: 1`: feed, await the log, join.
  const feed = await fanout.feed('a');
  const reading = fanout.refresh('a');
  clock.sweep();
  await reading;
  const socket = new FakeSocket();
  fanout.join(fanout.add(socket), feed);
  await a.write(1);
  await pause(50);
  for (let i = 0; i < 4; i++) {
    clock.audit();
    await pause(50);
  }
  expect(tail.place('a')).toBeDefined();
  expect(socket.lines()).toEqual(['a#2']);
});

it('S4a a watcher of everything that comes while the gateway ceases to listen to all hears everything', async () => {
  const clock = new HandClock();
  const { fanout, subscriber, tail } = await gateway({ clock });
  const keep = new FakeSocket();
  fanout.join(fanout.add(keep), await fanout.feed('b'));
  const first = fanout.add(new FakeSocket());
  fanout.watchEverything(first, 'implicit');
  await fanout.everythingReady;
  await pause(50);
  fanout.remove(first);
  clock.sweep();
  clock.skewMs += 40_000;
  const g = gate(subscriber, 'ssubscribe');
  clock.sweep(); // leaves, waits for its subscriptions
  await g.waiting;
  const socket = new FakeSocket();
  fanout.watchEverything(fanout.add(socket), 'implicit');
  g.restore();
  g.open();
  await fanout.everythingReady;
  await pause(100);
  const a = await writer(commands, 'a');
  await a.write(1);
  await pause(50);
  for (let i = 0; i < 4; i++) {
    clock.audit();
    await pause(50);
  }
  expect(tail.hearsAll).toBe(true);
  expect(socket.lines('a')).toEqual(a.written);
});

it('S4b a target followed while the gateway ceases to listen to all has a channel', async () => {
  const clock = new HandClock();
  const { fanout, subscriber } = await gateway({ clock });
  const keep = new FakeSocket();
  fanout.join(fanout.add(keep), await fanout.feed('b'));
  const first = fanout.add(new FakeSocket());
  fanout.watchEverything(first, 'implicit');
  await fanout.everythingReady;
  await pause(50);
  fanout.remove(first);
  clock.sweep();
  clock.skewMs += 40_000;
  const g = gate(subscriber, 'ssubscribe');
  clock.sweep();
  await g.waiting;
  const socket = new FakeSocket();
  const following = fanout.feed('a');
  await pause(30);
  g.restore();
  g.open();
  fanout.join(fanout.add(socket), await following);
  await pause(100);
  const a = await writer(commands, 'a');
  await a.write(1);
  await pause(200);
  expect(socket.lines('a')).toEqual(a.written); // without an audit
});

it('S12 after Redis lost all, a lost last line is still found by the audit (watch of one target)', async () => {
  const clock = new HandClock();
  const { fanout, subscriber } = await gateway({ clock });
  const socket = new FakeSocket();
  fanout.join(fanout.add(socket), await fanout.feed('a'));
  const a = await writer(commands, 'a');
  for (let i = 0; i < 50; i++) await a.write(1);
  await vi.waitFor(() => expect(socket.lines()).toHaveLength(50));
  for (let i = 0; i < 3; i++) {
    clock.audit();
    await pause(30);
  }
  await commands.flushall();
  const b = await writer(commands, 'a');
  await b.write(1);
  await vi.waitFor(() => expect(socket.lines()).toHaveLength(51));
  for (let i = 0; i < 3; i++) {
    clock.audit();
    await pause(30);
  }
  await subscriber.sunsubscribe(keys.outputChannel('a'));
  await b.write(1);
  for (let i = 0; i < 6; i++) {
    clock.audit();
    await pause(50);
  }
  expect(socket.lines()).toHaveLength(52);
});

it('S12b the same, for a watcher of everything', async () => {
  const clock = new HandClock();
  const { fanout, subscriber } = await gateway({ clock });
  const socket = new FakeSocket();
  fanout.watchEverything(fanout.add(socket), 'implicit');
  await fanout.everythingReady;
  const a = await writer(commands, 'a');
  for (let i = 0; i < 50; i++) await a.write(1);
  await vi.waitFor(() => expect(socket.lines()).toHaveLength(50));
  for (let i = 0; i < 3; i++) {
    clock.audit();
    await pause(30);
  }
  await commands.flushall();
  const b = await writer(commands, 'a');
  await b.write(1);
  await vi.waitFor(() => expect(socket.lines()).toHaveLength(51));
  for (let i = 0; i < 4; i++) {
    clock.audit();
    await pause(30);
  }
  await subscriber.sunsubscribe(keys.partitionChannel(P));
  await b.write(1);
  for (let i = 0; i < 6; i++) {
    clock.audit();
    await pause(50);
  }
  expect(socket.lines()).toHaveLength(52);
});

it('S3 a log that lost only its newest entries is not sent again from its beginning', async () => {
  const clock = new HandClock();
  const { fanout, subscriber } = await gateway({ clock });
  const socket = new FakeSocket();
  const c = fanout.add(socket);
  c.encoding = 'offsets';
  fanout.join(c, await fanout.feed('a'));
  const a = await writer(commands, 'a');
  for (let i = 0; i < 9; i++) await a.write(1);
  await vi.waitFor(() => expect(socket.lines()).toHaveLength(9));
  // As after a failover that lost the last entry.
  await commands.xdel(keys.log('a'), '10-0');
  await commands.hset(keys.logMeta('a'), 'last', '9');
  subscriber.disconnect(true);
  await pause(500);
  console.log(socket.messages.map((m) => `${m.type}:${m.offset ?? ''}:${m.from ?? ''}-${m.to ?? ''}`).join(' '));
  expect(new Set(socket.lines()).size).toBe(socket.lines().length);
});

it('S14 audits of a busy partition do not take a late reply for data loss', async () => {
  const clock = new HandClock();
  const { fanout, log, repairs } = await gateway({ clock });
  const socket = new FakeSocket();
  fanout.watchEverything(fanout.add(socket), 'implicit');
  await fanout.everythingReady;
  const a = await writer(commands, 'a');
  for (let round = 0; round < 3; round++) {
    const g = gate(log, 'partitionSequence', (p) => p === P, true);
    clock.audit();
    await g.waiting;
    await a.write(1);
    await pause(30);
    g.open();
    g.restore();
    await pause(30);
  }
  await a.write(1);
  await pause(50);
  expect(repairs).toEqual([]);
});
