import { describe, expect, it, vi } from 'vitest';
import { client, HandClock, keys, useDelivery } from './harness.js';

const delivery = useDelivery();
const { gateway, writer } = delivery;

describe('fan-out', () => {
  it('gives watchers of everything the lines of targets that appear later', async () => {
    const { fanout } = await gateway();
    const { client: c, socket } = client(fanout);
    fanout.watchEverything(c, 'implicit');
    await fanout.everythingReady;
    const a = await writer('a');
    const b = await writer('b');
    await a.write(2);
    await b.write();
    await a.write();
    await vi.waitFor(() => expect(socket.lines()).toHaveLength(4));
    expect(socket.lines('a')).toEqual(a.written);
    expect(socket.lines('b')).toEqual(b.written);
    expect(fanout.channelCount).toBe(65);
  });

  it('listens to one channel for each target while nobody watches everything', async () => {
    const { fanout } = await gateway();
    const one = client(fanout);
    const two = client(fanout);
    const a = await writer('a');
    const feed = await fanout.feed('a');
    fanout.join(one.client, feed);
    fanout.join(two.client, await fanout.feed('a'));
    expect(fanout.channelCount).toBe(2);
    await a.write(3);
    await vi.waitFor(() => expect(two.socket.lines()).toEqual(a.written));
    expect(one.socket.lines()).toEqual(a.written);
  });

  it('keeps the feed of a client that names a target and watches everything too, for when it ceases to', async () => {
    const clock = new HandClock();
    const { fanout } = await gateway({ clock });
    const { client: c, socket } = client(fanout);
    const a = await writer('a');
    fanout.join(c, await fanout.feed('a'));
    fanout.watchEverything(c, 'explicit');
    await fanout.everythingReady;
    await a.write();
    await vi.waitFor(() => expect(socket.lines()).toEqual(a.written));
    clock.skewMs = 60_000;
    clock.sweep();
    await a.write();
    await vi.waitFor(() => expect(socket.lines()).toEqual(a.written));
    fanout.unwatchEverything(c);
    await a.write();
    await vi.waitFor(() => expect(socket.lines()).toEqual(a.written));
  });

  it('serves a late joiner from the log, then live, without a hole or a double', async () => {
    const { fanout } = await gateway({ recentBytesMax: 0 });
    const a = await writer('a');
    for (let i = 0; i < 50; i++) await a.write(3);
    const { client: c, socket } = client(fanout);
    const feed = await fanout.feed('a');
    const writing = (async () => {
      for (let i = 0; i < 50; i++) await a.write(2);
    })();
    fanout.join(c, feed, 0);
    await writing;
    await vi.waitFor(() => expect(socket.lines()).toHaveLength(250));
    expect(socket.lines()).toEqual(a.written);
  });

  it('resumes in the middle of an entry', async () => {
    const { fanout } = await gateway();
    const a = await writer('a');
    await a.write(5);
    const { client: c, socket } = client(fanout);
    c.encoding = 'offsets';
    // Offset 1 is the started event: lines are 2 to 6.
    fanout.join(c, await fanout.feed('a'), 3);
    await vi.waitFor(() => expect(socket.lines()).toHaveLength(3));
    expect(socket.messages.map((m) => m.offset)).toEqual([4, 5, 6]);
  });

  it('leaves out a client whose socket is full and brings it up when it drains', async () => {
    const { fanout, seen } = await gateway({ clientBufferBytes: 2_000, recentBytesMax: 20_000 });
    const slow = client(fanout);
    const fast = client(fanout);
    const a = await writer('a');
    const feed = await fanout.feed('a');
    fanout.join(slow.client, feed);
    fanout.join(fast.client, feed);
    slow.socket.full = true;
    for (let i = 0; i < 300; i++) await a.write(5);
    await vi.waitFor(() => expect(fast.socket.lines()).toHaveLength(1500));
    // What it is sent may pass the bound once: the frame that shows that the socket is full is queued as well.
    const frameBytesMax = Math.max(...fast.socket.frames.map((frame) => Buffer.byteLength(frame)));
    expect(slow.socket.buffered).toBeLessThanOrEqual(2_000 + frameBytesMax);
    expect(fanout.behindCount).toBe(1);
    slow.socket.full = false;
    slow.socket.buffered = 0;
    fanout.drained(slow.client);
    await vi.waitFor(() => expect(slow.socket.lines()).toHaveLength(1500));
    expect(slow.socket.lines()).toEqual(a.written);
    expect(seen.reads.length).toBeGreaterThan(0);
    await vi.waitFor(() => expect(fanout.behindCount).toBe(0));
    await a.write();
    await vi.waitFor(() => expect(slow.socket.lines()).toEqual(a.written));
  });

  it('loses nothing for watchers of everything when the subscription breaks again and again', async () => {
    const { fanout } = await gateway();
    const { client: c, socket } = client(fanout);
    fanout.watchEverything(c, 'implicit');
    await fanout.everythingReady;
    const writers = await Promise.all(['a', 'b', 'c', 'd'].map((target) => writer(target)));
    let killing = true;
    const admin = delivery.redis.client();
    const killer = (async () => {
      while (killing) {
        await admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
        await new Promise((resolve) => setImmediate(resolve));
        for (let i = 0; i < 20; i++) await admin.ping();
      }
    })();
    for (let i = 0; i < 200; i++) for (const w of writers) await w.write(2);
    // A target that nobody knew, written while the connection is being killed.
    const late = await writer('late');
    await late.write(3);
    killing = false;
    await killer;
    await vi.waitFor(() => expect(socket.lines()).toHaveLength(1603), { timeout: 10_000 });
    for (const [i, target] of ['a', 'b', 'c', 'd'].entries()) expect(socket.lines(target)).toEqual(writers[i]?.written);
    expect(socket.lines('late')).toEqual(late.written);
  });

  it('finds the last line before a silence although its message was lost', async () => {
    const clock = new HandClock();
    const { fanout, subscriber, seen } = await gateway({ clock });
    const { client: c, socket } = client(fanout);
    fanout.join(c, await fanout.feed('a'));
    const everything = client(fanout);
    const a = await writer('a');
    await vi.waitFor(() => expect(fanout.channelCount).toBe(2));
    // Redis believes that nobody listens; the socket stays up.
    await subscriber.sunsubscribe(keys.outputChannel('a'));
    await a.write(2);
    await vi.waitFor(() => {
      clock.audit();
      expect(socket.lines()).toEqual(a.written);
    });
    expect(seen.repairs).toContain('audit');
    fanout.watchEverything(everything.client, 'implicit');
    await fanout.everythingReady;
    await subscriber.sunsubscribe(keys.partitionChannel(a.store.partition('a')));
    await a.write(1);
    await vi.waitFor(() => {
      clock.audit();
      expect(everything.socket.lines()).toEqual(a.written.slice(2));
    });
  });

  it('tells of a lost log by a new epoch and goes on', async () => {
    const { fanout } = await gateway();
    const { client: c, socket } = client(fanout);
    c.encoding = 'offsets';
    fanout.watchEverything(c, 'implicit');
    await fanout.everythingReady;
    const a = await writer('a');
    await a.write(2);
    await vi.waitFor(() => expect(socket.lines()).toHaveLength(2));
    await delivery.commands.flushall();
    const again = await writer('a');
    await again.write(1);
    await vi.waitFor(() => expect(socket.messages.map((m) => m.type)).toContain('gap'), { timeout: 8_000 });
    await again.write(1);
    await vi.waitFor(() => expect(socket.lines()).toEqual(['a#1', 'a#2', 'a#1', 'a#2']), { timeout: 8_000 });
  });

  it('says what was trimmed before a client could read it', async () => {
    const { fanout } = await gateway({ recentBytesMax: 0, clientBufferBytes: 100 });
    const old = client(fanout);
    const opted = client(fanout);
    opted.client.encoding = 'batch';
    const a = await writer('a');
    const feed = await fanout.feed('a');
    for (const { client: c, socket } of [old, opted]) {
      fanout.join(c, feed);
      socket.full = true;
    }
    for (let i = 0; i < 100; i++) await a.write(1);
    // What still gathers for a frame would be told from memory.
    await vi.waitFor(() => expect(feed.sentToMembers).toBe(101));
    await delivery.commands.xtrim(keys.log('a'), 'MINID', '81-0');
    for (const { client: c, socket } of [old, opted]) {
      socket.full = false;
      socket.buffered = 0;
      fanout.drained(c);
    }
    await vi.waitFor(() => expect(opted.socket.lines().at(-1)).toBe('a#100'));
    const gap = opted.socket.messages.find((m) => m.type === 'gap');
    expect(gap?.to).toBe(80);
    expect(opted.socket.lines()).toHaveLength(100 - (80 - (gap?.from ?? 0) + 1));
    await vi.waitFor(() => expect(old.socket.messages.find((m) => m.type === 'error')).toMatchObject({ target: 'a' }));
  });

  it('lets patterns match targets that appear later, once each', async () => {
    const { fanout } = await gateway();
    const { client: c, socket } = client(fanout);
    await fanout.addPattern(c, 'gpu-*', (target) => target.startsWith('gpu-'));
    fanout.join(c, await fanout.feed('gpu-1'));
    const one = await writer('gpu-1');
    const two = await writer('gpu-2');
    const other = await writer('cpu-1');
    await one.write();
    await other.write();
    await two.write();
    await vi.waitFor(() => expect(socket.lines()).toHaveLength(2));
    expect(socket.lines()).toEqual(['gpu-1#1', 'gpu-2#1']);
  });
});
