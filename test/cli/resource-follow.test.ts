import { type Change, followResources, GatewayFailure, ResourceApi } from '@carrierarr/cli';
import { FakeClock } from '@carrierarr/platform';
import type { Resource } from '@carrierarr/protocol';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeResources } from './fake-resources.js';

let gateway: FakeResources;
let clock: FakeClock;
let stop: AbortController;
let notices: string[];

beforeEach(async () => {
  gateway = await new FakeResources().start();
  clock = new FakeClock();
  stop = new AbortController();
  notices = [];
});
afterEach(async () => {
  stop.abort();
  gateway.drop();
  await gateway.stop();
});

function manifest(name: string) {
  return { apiVersion: 'carrierarr.io/v1', kind: 'Worker', metadata: { name }, spec: {} };
}

/** Follows all workers; what came is in `seen`, how it ended in `end`. */
function follow({ giveUpAfterMs = 60_000 } = {}) {
  const seen: string[] = [];
  const read = async () => {
    const changes = followResources({
      ...{ api: new ResourceApi({ url: gateway.url, token: null }, { clock }), kind: 'Worker', selector: null },
      ...{ signal: stop.signal, giveUpAfterMs, onNotice: (text) => notices.push(text), clock, random: () => 0.5 },
    });
    for await (const batch of changes) seen.push(batch.map(textOf).join(' '));
  };
  return {
    seen,
    end: read().then(
      () => 'ended',
      (error: unknown) => error,
    ),
  };
}

function textOf({ type, object }: Change<Resource>): string {
  return `${type}:${object.metadata.name}`;
}

const watches = () => gateway.requests.filter((each) => each.includes('watch=true'));

describe('resources that are followed', () => {
  it('come as they are first, also if there are none', async () => {
    const { seen, end } = follow();
    await vi.waitFor(() => expect(seen).toEqual(['']));
    await vi.waitFor(() => expect(gateway.watchers).toBe(1));
    gateway.add(manifest('a'));
    await vi.waitFor(() => expect(seen).toEqual(['', 'ADDED:a']));
    stop.abort();
    expect(await end).toBe('ended');
    expect(clock.pendingTimers).toBe(0);
  });

  it('go on from the last change seen when the connection is lost', async () => {
    const { seen } = follow();
    await vi.waitFor(() => expect(gateway.watchers).toBe(1));
    const { metadata } = gateway.add(manifest('a'));
    await vi.waitFor(() => expect(seen).toHaveLength(2));
    gateway.drop();
    await vi.waitFor(async () => {
      await clock.advanceAsync(1_000);
      expect(watches()).toHaveLength(2);
    });
    expect(watches()[1]).toContain(`resourceVersion=${metadata.resourceVersion}`);
    await vi.waitFor(() => expect(notices.at(-1)).toBe('Connected again.'));
    expect(seen).toHaveLength(2);
  });

  it('go on from the latest version, also after a deletion, which comes with an old one', async () => {
    gateway.add(manifest('a'));
    const { seen } = follow();
    await vi.waitFor(() => expect(gateway.watchers).toBe(1));
    const { metadata } = gateway.add(manifest('b'));
    gateway.remove('Worker', 'a');
    await vi.waitFor(() => expect(seen.at(-1)).toBe('DELETED:a'));
    gateway.drop();
    await vi.waitFor(async () => {
      await clock.advanceAsync(1_000);
      expect(watches()).toHaveLength(2);
    });
    expect(watches()[1]).toContain(`resourceVersion=${metadata.resourceVersion}`);
    gateway.add(manifest('c'));
    await vi.waitFor(() => expect(seen).toEqual(['ADDED:a', 'ADDED:b', 'DELETED:a', 'ADDED:c']));
  });

  it('are asked for anew when nothing, not even a bookmark, came for too long', async () => {
    const { seen } = follow();
    await vi.waitFor(() => expect(gateway.watchers).toBe(1));
    gateway.add(manifest('a'));
    // The time of silence runs from here.
    await vi.waitFor(() => expect(seen).toHaveLength(2));
    await clock.advanceAsync(89_000);
    expect([gateway.watchers, watches().length]).toEqual([1, 1]);
    await clock.advanceAsync(1_000);
    await vi.waitFor(async () => {
      await clock.advanceAsync(100);
      expect(watches()).toHaveLength(2);
    });
  });

  it('are given up when no gateway came back for long enough', async () => {
    const { end } = follow({ giveUpAfterMs: 30_000 });
    let outcome: unknown;
    void end.then((value) => (outcome = value));
    await vi.waitFor(() => expect(gateway.watchers).toBe(1));
    gateway.drop();
    await gateway.stop();
    await vi.waitFor(async () => {
      await clock.advanceAsync(1_000);
      expect(outcome).toBeInstanceOf(GatewayFailure);
    }, 15_000);
    expect(clock.monotonicMs()).toBeGreaterThan(30_000);
    expect(notices).toEqual([expect.stringMatching(/Connecting again/)]);
  });

  it('are not asked for in a tight loop when each position is refused', async () => {
    gateway.onRequest = (request) => (request.includes('watch=true') ? 'expired' : undefined);
    gateway.add(manifest('a'));
    const { seen } = follow();
    for (let waits = 1; waits <= 3; waits++) {
      await vi.waitFor(() => expect(watches()).toHaveLength(waits));
      await vi.waitFor(() => expect(clock.pendingTimers).toBe(1));
      await clock.advanceAsync(10_000);
    }
    expect(seen).toEqual(['ADDED:a']);
  });
});
