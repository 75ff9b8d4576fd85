/**
 * Moments at which something else happens than one expects: each test holds a call up where a race needs it, and
 * asks for every line afterwards, once.
 */
import { PARTITIONS, partitionOf } from '@carrierarr/protocol';
import { describe, expect, it, vi } from 'vitest';
import { client, gate, HandClock, keys, useDelivery } from './harness.js';

const delivery = useDelivery();
const { writer } = delivery;
const partition = partitionOf('a');
const [x, y, z] = Array.from({ length: 5_000 }, (_, i) => `n${i}`).filter((n) => partitionOf(n) === partition) as [
  string,
  string,
  string,
];
/** A target of another partition. */
const elsewhere = ['b', 'c', 'd'].find((n) => partitionOf(n) !== partition) as string;

async function gateway(options: Parameters<typeof delivery.gateway>[0] = {}) {
  const clock = new HandClock();
  const started = await delivery.gateway({ clock, ...options });
  const { fanout, seen } = started;
  return {
    ...started,
    clock,
    /** Waits until something holds, and audits meanwhile. */
    eventually: (holds: () => void, timeout = 3_000) =>
      vi.waitFor(
        () => {
          clock.audit();
          holds();
        },
        { timeout },
      ),
    /** Waits until so many audits have come to their end: each begins by a probe, when the one before has ended. */
    audits: async (count: number) => {
      const end = seen.probes + count + 1;
      await vi.waitFor(
        () => {
          clock.audit();
          expect(seen.probes).toBeGreaterThanOrEqual(end);
        },
        { timeout: 5_000 },
      );
    },
    /** A client that watches everything. */
    watcher: async () => {
      const all = client(fanout);
      fanout.watchEverything(all.client, 'implicit');
      await fanout.everythingReady;
      return all;
    },
  };
}

type Subscribing = { ssubscribe(...channels: string[]): Promise<unknown> };

describe('a watcher of everything', () => {
  it('loses no line to a named subscription to a target that was not known', async () => {
    const { fanout, log, watcher, eventually } = await gateway();
    const a = await writer('a'); // Nobody hears its first event.
    const { socket } = await watcher();
    const reading = gate(log, 'read', { when: (target) => target === 'a' });
    const joining = fanout.feed('a');
    await reading.reached;
    await a.write(2); // While the newcomer finds out where the log ends.
    const marker = await writer(elsewhere);
    await marker.write();
    await vi.waitFor(() => expect(socket.lines(elsewhere)).toEqual(marker.written));
    reading.open();
    fanout.join(client(fanout).client, await joining);
    await a.write(1);
    await eventually(() => expect(socket.lines('a')).toEqual(a.written));
  });

  it('gets the first line of a target that appears while its partition is repaired', async () => {
    const { log, subscriber, watcher, eventually } = await gateway();
    const { socket } = await watcher();
    const first = await writer(x);
    await first.write(1);
    await vi.waitFor(() => expect(socket.lines()).toHaveLength(1));
    // A message is lost, a later one shows it.
    await subscriber.sunsubscribe(keys.partitionChannel(partition));
    const lost = await writer(y);
    await lost.write(1);
    await subscriber.ssubscribe(keys.partitionChannel(partition));
    const changed = gate(log, 'changedSince', { when: (p) => p === partition, moment: 'after' });
    await first.write(1);
    await changed.reached;
    const late = await writer(z);
    await late.write(1);
    const marker = await writer(elsewhere);
    await marker.write();
    await vi.waitFor(() => expect(socket.lines(elsewhere)).toEqual(marker.written));
    changed.open();
    await eventually(() => {
      expect(socket.lines(x)).toEqual(first.written);
      expect(socket.lines(y)).toEqual(lost.written);
      expect(socket.lines(z)).toEqual(late.written);
    });
  });

  it('gets a target that somebody tried in vain to follow', async () => {
    const { fanout, subscriber, watcher, eventually } = await gateway();
    const a = await writer('a');
    const failing = vi
      .spyOn(subscriber as Subscribing, 'ssubscribe')
      .mockRejectedValue(new Error('Connection is closed.'));
    await expect(fanout.feed('a')).rejects.toThrow('Connection is closed.');
    failing.mockRestore();
    const { socket } = await watcher();
    await a.write(1);
    await eventually(() => expect(socket.lines()).toEqual(a.written));
  });

  it('hears everything although it came while the gateway ceased to listen to all', async () => {
    const { fanout, tail, left, eventually } = await leaving();
    const all = client(fanout);
    fanout.watchEverything(all.client, 'implicit');
    const ready = fanout.everythingReady;
    await left();
    await ready;
    const a = await writer('a');
    await a.write(1);
    await eventually(() => expect(all.socket.lines('a')).toEqual(a.written));
    expect(tail.hearsAll).toBe(true);
  });

  it('makes the gateway say once that Redis keeps it from listening to everything', async () => {
    const { fanout, log, seen } = await gateway();
    let attempts = 0;
    const failing = vi.spyOn(log, 'partitionSequence').mockImplementation(() => {
      attempts += 1;
      return Promise.reject(new Error('Connection is closed.'));
    });
    fanout.watchEverything(client(fanout).client, 'implicit');
    await vi.waitFor(() => expect(attempts).toBeGreaterThan(2 * PARTITIONS));
    failing.mockRestore();
    await fanout.everythingReady;
    expect(seen.warnings.mock.calls.map(([, text]) => text)).toEqual(['cannot listen to every target; trying again']);
  });
});

/** A gateway that is about to listen to named targets only, and waits for its subscriptions to them. */
async function leaving() {
  const started = await gateway();
  const { fanout, tail, subscriber, clock, watcher } = started;
  fanout.join(client(fanout).client, await fanout.feed('b'));
  const first = await watcher();
  // The probe and the partitions: the channel of the target is not needed any more.
  await vi.waitFor(() => expect(fanout.channelCount).toBe(1 + PARTITIONS));
  fanout.remove(first.client);
  clock.sweep();
  clock.skewMs += 40_000;
  const subscribing = gate(subscriber as Subscribing, 'ssubscribe');
  const leaveAll = vi.spyOn(tail, 'leaveAll');
  clock.sweep();
  await subscribing.reached;
  return {
    ...started,
    /** Lets it go on, until it has left. */
    left: async () => {
      subscribing.open();
      await leaveAll.mock.results[0]?.value;
    },
  };
}

describe('a named subscription', () => {
  it('has its own channel although it came while the gateway ceased to listen to all', async () => {
    const { fanout, left } = await leaving();
    const { client: c, socket } = client(fanout);
    const following = fanout.feed('a');
    await left();
    fanout.join(c, await following);
    const a = await writer('a');
    await a.write(1);
    // Without an audit.
    await vi.waitFor(() => expect(socket.lines('a')).toEqual(a.written));
  });

  it('keeps its feed from being forgotten although nobody has wanted it for long', async () => {
    const { fanout, tail, clock, eventually } = await gateway();
    const a = await writer('a');
    await a.write(1);
    const early = client(fanout);
    fanout.join(early.client, await fanout.feed('a'));
    fanout.remove(early.client);
    clock.skewMs += 40_000; // The sweep has yet to come.
    const feed = await fanout.feed('a');
    const reading = fanout.refresh('a');
    clock.sweep();
    await reading;
    const { client: c, socket } = client(fanout);
    fanout.join(c, feed);
    await a.write(1);
    await eventually(() => expect(socket.lines()).toEqual(['a#2']));
    expect(tail.place('a')).toBeDefined();
  });
});

describe('after Redis has lost data', () => {
  it('gets a client that is behind what the new log has, not a page of the old one', async () => {
    const { fanout } = await gateway({ recentBytesMax: 0 });
    const stuck = client(fanout);
    const old = await writer('elsewhere');
    await old.write(1);
    // One that stays behind keeps pages from being forgotten.
    fanout.hold(stuck.client);
    fanout.join(stuck.client, await fanout.feed('elsewhere'), 0);
    const a = await writer('a');
    for (let i = 0; i < 10; i++) await a.write(1);
    const one = client(fanout);
    fanout.join(one.client, await fanout.feed('a'), 0);
    await vi.waitFor(() => expect(one.socket.lines()).toEqual(a.written));
    await delivery.commands.flushall();
    const b = await writer('a');
    for (let i = 0; i < 5; i++) await b.write(1);
    await vi.waitFor(() => expect(one.socket.lines()).toEqual([...a.written, ...b.written]), { timeout: 3_000 });
    const two = client(fanout);
    fanout.join(two.client, await fanout.feed('a'), 0);
    await vi.waitFor(() => expect(two.socket.lines()).toEqual(b.written), { timeout: 3_000 });
  });

  it('finds a line whose message was lost, of a target somebody watches', async () => {
    const { fanout, subscriber, audits, eventually } = await gateway();
    const { client: c, socket } = client(fanout);
    fanout.join(c, await fanout.feed('a'));
    const b = await loseAll(socket, audits);
    await subscriber.sunsubscribe(keys.outputChannel('a'));
    await b.write(1);
    await eventually(() => expect(socket.lines()).toHaveLength(52));
  });

  it('finds a line whose message was lost, for watchers of everything', async () => {
    const { subscriber, watcher, audits, eventually } = await gateway();
    const { socket } = await watcher();
    const b = await loseAll(socket, audits);
    await subscriber.sunsubscribe(keys.partitionChannel(partition));
    await b.write(1);
    await eventually(() => expect(socket.lines()).toHaveLength(52));
  });

  /** Numbers are high before, low after, and audits have seen both. */
  async function loseAll(socket: { lines(): string[] }, audits: (count: number) => Promise<void>) {
    const a = await writer('a');
    for (let i = 0; i < 50; i++) await a.write(1);
    await vi.waitFor(() => expect(socket.lines()).toHaveLength(50));
    await audits(3);
    await delivery.commands.flushall();
    const b = await writer('a');
    await b.write(1);
    await vi.waitFor(() => expect(socket.lines()).toHaveLength(51), { timeout: 3_000 });
    await audits(3);
    return b;
  }

  it('does not send again what is left of a log that lost only its newest entries', async () => {
    const { fanout, subscriber } = await gateway();
    const { client: c, socket } = client(fanout);
    c.encoding = 'offsets';
    fanout.join(c, await fanout.feed('a'));
    fanout.join(c, await fanout.feed('b'));
    const a = await writer('a');
    for (let i = 0; i < 9; i++) await a.write(1);
    await vi.waitFor(() => expect(socket.lines()).toHaveLength(9));
    // As after a failover that lost the last entry.
    await delivery.commands.xdel(keys.log('a'), '10-0');
    await delivery.commands.hset(keys.logMeta('a'), 'last', '9');
    subscriber.disconnect(true);
    await vi.waitFor(() => expect(socket.messages.map(({ type }) => type)).toContain('gap'), { timeout: 3_000 });
    // What the log of `a` had to say has been read by the time that this is written.
    const b = await writer('b');
    await b.write(1);
    await vi.waitFor(() => expect(socket.lines('b')).toEqual(b.written), { timeout: 3_000 });
    fanout.flush();
    expect(socket.lines('a')).toEqual(a.written);
  });
});

describe('the audit', () => {
  it('does not take a late reply of a busy partition for data loss', async () => {
    const { log, watcher, audits, eventually, seen } = await gateway();
    const { socket } = await watcher();
    const a = await writer('a');
    for (let round = 0; round < 3; round++) {
      const asked = gate(log, 'partitionSequence', { when: (p) => p === partition, moment: 'after' });
      await eventually(() => expect(asked.held).toBe(1));
      await a.write(1);
      await vi.waitFor(() => expect(socket.lines()).toEqual(a.written));
      asked.open();
      await audits(1);
    }
    expect(seen.repairs).toEqual([]);
  });

  it('takes the subscription for alive only when every shard has answered', async () => {
    const { fanout, subscriber, clock, seen } = await gateway({ asCluster: true });
    const { client: c, socket } = client(fanout);
    fanout.join(c, await fanout.feed('a'));
    await vi.waitFor(() => expect(seen.health).toContain(true));
    seen.health.length = 0;
    await subscriber.sunsubscribe(keys.probeChannel(5, 'g'));
    const sent = vi.spyOn(delivery.commands, 'spublish');
    await vi.waitFor(() => {
      // The first audit may still be at work; then this one is left out.
      if (sent.mock.calls.length === 0) clock.audit();
      expect(sent).toHaveBeenCalled();
    });
    const number = String(sent.mock.calls[0]?.[1]);
    const probes = Array.from({ length: PARTITIONS }, (_, p) => keys.probeChannel(p, 'g'));
    // Some answer twice.
    for (const channel of probes.slice(0, 3)) await delivery.commands.spublish(channel, number);
    const a = await writer('a');
    await a.write(1);
    await vi.waitFor(() => expect(socket.lines()).toEqual(a.written));
    expect(seen.health).not.toContain(true);
    await subscriber.ssubscribe(keys.probeChannel(5, 'g'));
    await delivery.commands.spublish(keys.probeChannel(5, 'g'), number);
    await vi.waitFor(() => expect(seen.health).toContain(true));
  });
});

describe('a reconnect', () => {
  it('reads a bounded number of logs at once, and all of them in the end', async () => {
    const { fanout, log, subscriber } = await gateway();
    const targets = Array.from({ length: 60 }, (_, i) => `many-${i}`);
    const all = client(fanout);
    for (const target of targets) fanout.join(all.client, await fanout.feed(target));
    const writers = await Promise.all(targets.map((target) => writer(target)));
    const read = log.read.bind(log);
    let reading = 0;
    let readingMax = 0;
    vi.spyOn(log, 'read').mockImplementation(async (...args) => {
      readingMax = Math.max(readingMax, (reading += 1));
      const page = await read(...args);
      reading -= 1;
      return page;
    });
    subscriber.disconnect(true);
    for (const w of writers) await w.write(2);
    await vi.waitFor(() => expect(all.socket.lines().length).toBe(120), { timeout: 5_000 });
    await vi.waitFor(() => expect(reading).toBe(0));
    expect(readingMax).toBe(16);
  });

  it('asks a Cluster connection for a channel once, and a new connection for all', async () => {
    const { fanout, tail, subscriber, subscribers, eventually, seen } = await gateway({ asCluster: true });
    fanout.join(client(fanout).client, await fanout.feed('a'));
    const asked = vi.spyOn(subscriber as Subscribing, 'ssubscribe');
    const before = seen.repairs.length;
    subscriber.emit('ready');
    await vi.waitFor(() => expect(seen.repairs.slice(before)).toEqual(['reconnect']));
    expect(asked).not.toHaveBeenCalled();
    // What was given up is asked for anew.
    await tail.unfollow('a');
    await tail.follow('a');
    expect(asked.mock.calls).toEqual([[keys.outputChannel('a')]]);
    // A probe that never comes back.
    await subscriber.sunsubscribe(keys.probeChannel(0, 'g'));
    await eventually(() => expect(subscribers).toHaveLength(2));
    const a = await writer('a');
    await vi.waitFor(() => expect(seen.repairs.slice(before + 1)).toContain('reconnect'));
    const { client: c, socket } = client(fanout);
    fanout.join(c, await fanout.feed('a'));
    await a.write(1);
    await vi.waitFor(() => expect(socket.lines()).toEqual(a.written));
  });
});

describe('clients that are behind', () => {
  it('share the pages they read, which are forgotten when nobody is behind any more', async () => {
    const { fanout, log } = await gateway({ recentBytesMax: 0 });
    const a = await writer('a');
    for (let i = 0; i < 20; i++) await a.write(1);
    const feed = await fanout.feed('a');
    const read = vi.spyOn(log, 'read');
    const catchUp = async () => {
      const both = [client(fanout), client(fanout)];
      for (const { client: c } of both) fanout.hold(c);
      for (const { client: c } of both) fanout.join(c, feed, 0);
      for (const { client: c, socket } of both) {
        fanout.release(c);
        await vi.waitFor(() => expect(socket.lines()).toEqual(a.written));
      }
      await vi.waitFor(() => expect(fanout.behindCount).toBe(0));
    };
    await catchUp();
    expect(read).toHaveBeenCalledTimes(1);
    await catchUp();
    expect(read).toHaveBeenCalledTimes(2);
  });

  it('get frames of what they are not behind on in memory that is used again', async () => {
    const { fanout } = await gateway({ recentBytesMax: 0 });
    const a = await writer('a');
    const b = await writer('b');
    const all = Array.from({ length: 20 }, () => client(fanout));
    for (const { client: c } of all) fanout.watchEverything(c, 'implicit');
    await fanout.everythingReady;
    await a.write(1);
    await vi.waitFor(() => {
      for (const { socket } of all) expect(socket.lines()).toEqual(a.written);
    });
    // Behind on `a` while its page is read; on `b` they are not.
    const feed = await fanout.feed('a');
    for (const { client: c } of all) c.fallBehind(feed, 0);
    const allocated = vi.spyOn(Buffer, 'allocUnsafeSlow');
    await b.write(1);
    await vi.waitFor(() => {
      for (const { socket } of all) expect(socket.lines('b')).toEqual(b.written);
    });
    expect(allocated.mock.calls.length).toBeLessThanOrEqual(1);
    allocated.mockRestore();
  });
});
