import { createMetrics, FakeClock } from '@carrierarr/platform';
import type { SeenWorker, StatusPoint } from '@carrierarr/protocol';
import type { StatusDelta } from '@carrierarr/store';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { createStatusMetrics } from '../../../apps/gateway/src/status/status-metrics.js';
import {
  DOCUMENT_INTERVAL_MS,
  OPT_IN_MS,
  type StatusClient,
  StatusPush,
} from '../../../apps/gateway/src/status/status-push.js';
import { StatusView } from '../../../apps/gateway/src/status/status-view.js';
import { SOURCE, workerRecord } from './monitor.js';

const BUFFER_BYTES = 1_000;

class TestClient implements StatusClient {
  readonly frames: Buffer[] = [];
  buffered = 0;
  send(frame: Buffer): boolean {
    this.frames.push(frame);
    return this.buffered === 0;
  }
  bufferedBytes(): number {
    return this.buffered;
  }
  get messages(): { type: string; [key: string]: unknown }[] {
    return this.frames.map((frame) => JSON.parse(frame.toString()));
  }
  /** States of the workers, of each `status` message. */
  get documents(): string[][] {
    return this.messages
      .filter(({ type }) => type === 'status')
      .map(({ data }) => (JSON.parse(data as string) as { workers: SeenWorker[] }).workers.map((w) => w.state));
  }
}

let clock: FakeClock;
let view: StatusView;
let push: StatusPush;
let changesSince: ReturnType<typeof vi.fn<(point: StatusPoint) => Promise<StatusDelta>>>;
let refresh: ReturnType<typeof vi.fn<() => Promise<void>>>;
let metrics: ReturnType<typeof createMetrics>;
let version: number;
const errors: unknown[] = [];

function seen(id: string, state: string): SeenWorker {
  return { ...workerRecord(id, { state }), version, observed_at: new Date(clock.now()).toISOString() };
}

/** What the store would tell the gateway: a worker has a new state. */
function change(id: string, state: string, epoch = 'e'): void {
  version += 1;
  const full = view.point?.epoch !== epoch;
  const step = view.apply({ epoch, version, full, workers: [seen(id, state)], removed: [] });
  if (step !== 'nothing') push.changed(step);
}

/** What sources reported now, with when each worker was seen. */
function hear(seenMs: Record<string, number>): void {
  const report = { source: SOURCE, ok: true, polled_at: new Date(clock.now()).toISOString() };
  view.hear({
    sources: [{ ...report, interval_ms: 30_000, calls: 1, workers: 1 }],
    seenMs: new Map(Object.entries(seenMs)),
  });
}

/** Looks who has turned stale or fresh, and tells. */
function judge(expected: string[]): void {
  const turned = view.judge(clock.now());
  expect(turned.toSorted()).toEqual(expected.toSorted());
  push.freshnessChanged(turned);
}

async function encodings(): Promise<Record<string, number>> {
  const { values } = await (
    metrics.getSingleMetric('carrierarr_gateway_status_encodings_total') as never as {
      get(): Promise<{ values: { labels: { kind: string }; value: number }[] }>;
    }
  ).get();
  return Object.fromEntries(values.map(({ labels, value }) => [labels.kind, value]));
}

function start(bytesPerSecondMax?: number): void {
  push = new StatusPush({
    ...{ view, clock, bufferBytesMax: BUFFER_BYTES, changesSince, refresh },
    ...(bytesPerSecondMax !== undefined && { bytesPerSecondMax }),
    metrics: createStatusMetrics(metrics, () => 0),
    onError: (error) => errors.push(error),
  });
}

beforeEach(() => {
  clock = new FakeClock();
  view = new StatusView();
  version = 0;
  errors.length = 0;
  metrics = createMetrics({ program: 'test', version: '0', hasProcessMetrics: false });
  changesSince = vi.fn<(point: StatusPoint) => Promise<StatusDelta>>(() =>
    Promise.reject(new Error('nobody asked for changes')),
  );
  refresh = vi.fn<() => Promise<void>>(() => Promise.resolve());
  view.hear({
    sources: [
      {
        ...{ source: SOURCE, ok: true, polled_at: new Date(clock.now()).toISOString() },
        ...{ interval_ms: 30_000, calls: 1, workers: 1 },
      },
    ],
    seenMs: new Map(),
  });
  start();
});

const clients = (count: number) => Array.from({ length: count }, () => new TestClient());

describe('old clients', () => {
  it('get one document that was made once, all 200 of them', async () => {
    change('a', 'pending');
    const all = clients(200);
    for (const client of all) push.add(client);
    for (const client of all) expect(client.documents).toEqual([['pending']]);
    clock.advance(1_000);
    change('a', 'running');
    for (const client of all) expect(client.documents).toEqual([['pending'], ['running']]);
    // The same buffer, not an equal one.
    expect(new Set(all.map(({ frames }) => frames[1])).size).toBe(1);
    expect(await encodings()).toEqual({ document: 2 });
  });

  it('that may ask for `workers` get their first document only if they have not done so after half a second', () => {
    change('a', 'running');
    const [asking, silent] = clients(2) as [TestClient, TestClient];
    for (const client of [asking, silent]) push.add(client, { mayOptIn: true });
    push.optIn(asking, undefined);
    expect(asking.frames).toHaveLength(1);
    clock.advance(OPT_IN_MS - 1);
    expect(silent.frames).toHaveLength(0);
    clock.advance(DOCUMENT_INTERVAL_MS);
    expect(silent.documents).toEqual([['running']]);
    expect(asking.frames).toHaveLength(1);
    clock.advance(DOCUMENT_INTERVAL_MS);
    change('a', 'stopped');
    expect(silent.documents).toEqual([['running'], ['stopped']]);
  });

  it('get what changes within a second in one document', () => {
    change('a', 'pending');
    const [client] = clients(1) as [TestClient];
    push.add(client);
    for (const state of ['s1', 's2', 's3']) change('a', state);
    expect(client.documents).toEqual([['pending']]);
    clock.advance(999);
    expect(client.documents).toHaveLength(1);
    clock.advance(1);
    expect(client.documents).toEqual([['pending'], ['s3']]);
    clock.advance(10_000);
    expect(client.documents).toHaveLength(2);
    change('a', 's4');
    expect(client.documents).toHaveLength(3);
    change('a', 's5');
    clock.advance(500);
    change('a', 's6');
    clock.advance(499);
    expect(client.documents).toHaveLength(3);
    clock.advance(1);
    expect(client.documents.at(-1)).toEqual(['s6']);
  });

  it('that came at different times are told at the same time, so that one document does for all', async () => {
    change('a', 's0');
    const all = clients(100);
    for (const [i, client] of all.entries()) {
      push.add(client);
      clock.advance(17);
      change('a', `t${i}`);
    }
    const before = await encodings();
    const sent = all.map(({ frames }) => frames.length);
    for (let i = 0; i < 500; i += 1) {
      clock.advance(20);
      change('a', `u${i}`);
    }
    // Ten seconds.
    expect(((await encodings())['document'] ?? 0) - (before['document'] ?? 0)).toBeLessThanOrEqual(11);
    for (const [i, { frames }] of all.entries()) {
      expect(frames.length - sent[i]!).toBeGreaterThanOrEqual(9);
      expect(frames.length - sent[i]!).toBeLessThanOrEqual(11);
    }
    clock.advance(2_000);
    expect(new Set(all.map(({ documents }) => documents.at(-1)?.[0]))).toEqual(new Set(['u499']));
  });

  it('never get `workers`, and are told of a fleet that is gone, but of none that never was', () => {
    const step = view.apply({ epoch: '', version: 0, full: true, workers: [], removed: [] });
    if (step !== 'nothing') push.changed(step);
    const [client] = clients(1) as [TestClient];
    push.add(client);
    clock.advance(5_000);
    expect(client.frames).toEqual([]);
    change('a', 'running');
    clock.advance(1_000);
    version += 1;
    const gone = view.apply({ epoch: 'e', version, full: false, workers: [], removed: ['a'] });
    if (gone !== 'nothing') push.changed(gone);
    push.freshnessChanged([]);
    clock.advance(1_000);
    expect(client.documents.at(-1)).toEqual([]);
    expect(new Set(client.messages.map(({ type }) => type))).toEqual(new Set(['status']));
  });

  it('that do not read are left out, and get the newest when they have drained', async () => {
    change('a', 's0');
    const [slow, fast] = clients(2) as [TestClient, TestClient];
    push.add(slow);
    push.add(fast);
    slow.buffered = BUFFER_BYTES + 1;
    for (const state of ['s1', 's2', 's3']) {
      clock.advance(1_000);
      change('a', state);
    }
    expect(fast.documents).toEqual([['s0'], ['s1'], ['s2'], ['s3']]);
    expect(slow.documents).toEqual([['s0']]);
    slow.buffered = BUFFER_BYTES / 2 + 1;
    push.drained(slow);
    expect(slow.documents).toHaveLength(1);
    slow.buffered = 0;
    push.drained(slow);
    push.drained(slow);
    expect(slow.documents).toEqual([['s0'], ['s3']]);
    push.remove(slow);
    clock.advance(1_000);
    change('a', 's4');
    expect(slow.documents).toHaveLength(2);
  });

  it('wait longer for each other, the more bytes all of them together are', () => {
    change('a', 's0');
    const size = (() => {
      const [probe] = clients(1) as [TestClient];
      push.add(probe);
      return probe.frames[0]!.length;
    })();
    // Ten documents a second; forty clients.
    push.stop();
    metrics.clear();
    start(size * 10);
    const all = clients(40);
    for (const client of all) push.add(client);
    const sent = () => all.reduce((sum, { frames }) => sum + frames.length, 0);
    expect(sent()).toBe(10);
    clock.advance(3_100);
    expect(sent()).toBe(40);
    expect(all.every(({ frames }) => frames.length === 1)).toBe(true);
    const begun = sent();
    for (let second = 0; second < 20; second += 1) {
      change('a', `t${second}`);
      clock.advance(1_000);
    }
    // A second's worth may have gathered before.
    expect(sent() - begun).toBeLessThanOrEqual(10 * 21 + 1);
    expect(sent() - begun).toBeGreaterThan(10 * 18);
    // Nobody is forgotten, and in the end everybody knows the newest.
    expect(Math.min(...all.map(({ frames }) => frames.length))).toBeGreaterThanOrEqual(4);
    clock.advance(5_000);
    expect(new Set(all.map(({ documents }) => documents.at(-1)?.[0]))).toEqual(new Set(['t19']));
  });
});

describe('clients that asked for `workers`', () => {
  it('get everything, then each step, made once', async () => {
    change('a', 'pending');
    const all = clients(50);
    for (const client of all) {
      push.add(client);
      push.optIn(client, undefined);
    }
    change('b', 'pending');
    change('a', 'running');
    clock.advance(10_000);
    for (const { messages } of all) {
      expect(messages.slice(1)).toMatchObject([
        { type: 'workers', epoch: 'e', version: 1, full: true, workers: [{ id: 'a', state: 'pending', version: 1 }] },
        { type: 'workers', version: 2, full: false, workers: [{ id: 'b' }], removed: [] },
        { type: 'workers', version: 3, full: false, workers: [{ id: 'a', state: 'running' }] },
      ]);
      expect(messages).toHaveLength(4);
    }
    expect(await encodings()).toEqual({ document: 1, full: 1, step: 2 });
  });

  it('that know all are answered with nothing new, and with who is stale', async () => {
    change('a', 'running');
    changesSince.mockImplementation((point) => Promise.resolve({ ...point, full: false, workers: [], removed: [] }));
    const [client, late] = clients(2) as [TestClient, TestClient];
    push.optIn(client, { epoch: 'e', version: 1 });
    await vi.waitFor(() => expect(client.messages).toMatchObject([{ version: 1, full: false, workers: [] }]));
    clock.advance(90_001);
    judge(['a']);
    expect(client.messages.at(-1)).toMatchObject({ full: false, version: 1, workers: [{ id: 'a', stale: true }] });
    push.optIn(late, { epoch: 'e', version: 1 });
    await vi.waitFor(() => expect(late.messages).toMatchObject([{ full: false, workers: [{ id: 'a', stale: true }] }]));
  });

  it('are told who has turned stale or fresh, and of nobody else, in one text for all', async () => {
    for (const id of ['a', 'b', 'c']) change(id, 'running');
    const all = clients(20);
    for (const client of all) push.optIn(client, undefined);
    // Each of them is looked at by itself, as a script's are.
    hear({ a: clock.now(), b: clock.now(), c: clock.now() });
    clock.advance(90_001);
    hear({ a: clock.now() - 90_001, b: clock.now(), c: clock.now() });
    judge(['a']);
    hear({ a: clock.now(), b: clock.now() - 90_001, c: clock.now() });
    judge(['b', 'a']);
    for (const { messages } of all) {
      expect(messages.slice(1)).toMatchObject([
        { full: false, version: 3, workers: [{ id: 'a', stale: true }], removed: [] },
        { full: false, version: 3, workers: [{ id: 'a' }, { id: 'b', stale: true }], removed: [] },
      ]);
      expect(messages[2]).not.toHaveProperty('workers.0.stale');
    }
    expect(await encodings()).toEqual({ full: 1, freshness: 2 });
  });

  it('that did not read meanwhile are told of all who turned, after what changed; of too many turns, everything', () => {
    for (const id of ['a', 'b', 'c']) change(id, 'running');
    const [slow] = clients(1) as [TestClient];
    push.optIn(slow, undefined);
    slow.buffered = BUFFER_BYTES + 1;
    push.freshnessChanged(['a']);
    push.freshnessChanged(['b']);
    change('c', 'stopped');
    slow.buffered = 0;
    push.drained(slow);
    expect(slow.messages.slice(1)).toMatchObject([
      { full: false, version: 4, workers: [{ id: 'c', state: 'stopped' }] },
      { full: false, version: 4, workers: [{ id: 'a' }, { id: 'b' }] },
    ]);
    slow.buffered = BUFFER_BYTES + 1;
    for (let i = 0; i < 20; i += 1) push.freshnessChanged(['a']);
    slow.buffered = 0;
    push.drained(slow);
    expect(slow.messages.slice(3)).toMatchObject([{ full: true, version: 4 }]);
  });

  it('that are behind get what they miss, looked up once for all that know the same', async () => {
    for (const state of ['s1', 's2', 's3']) change('a', state);
    changesSince.mockImplementation(() =>
      Promise.resolve({ epoch: 'e', version: 3, full: false, workers: [seen('a', 's3')], removed: ['x'] }),
    );
    const all = clients(30);
    for (const client of all) push.optIn(client, { epoch: 'e', version: 1 });
    await vi.waitFor(() => expect(all.every(({ frames }) => frames.length === 1)).toBe(true));
    expect(all[0]?.messages).toMatchObject([{ version: 3, full: false, workers: [{ state: 's3' }], removed: ['x'] }]);
    expect(changesSince).toHaveBeenCalledTimes(1);
    change('a', 's4');
    for (const { messages } of all) expect(messages.at(-1)).toMatchObject({ version: 4, workers: [{ state: 's4' }] });
    expect(changesSince).toHaveBeenCalledTimes(1);
  });

  it('whose points are too many to look up get everything instead', async () => {
    for (let i = 0; i < 300; i += 1) change('a', `s${i}`);
    let answer!: () => void;
    const until = new Promise<void>((resolve) => {
      answer = resolve;
    });
    changesSince.mockImplementation(async () => {
      await until;
      return { epoch: 'e', version: 300, full: false, workers: [seen('a', 's299')], removed: [] };
    });
    const all = clients(200);
    for (const [i, client] of all.entries()) push.optIn(client, { epoch: 'e', version: i + 1 });
    expect(changesSince).toHaveBeenCalledTimes(64);
    expect(all.filter(({ messages }) => messages[0]?.['full'] === true)).toHaveLength(136);
    answer();
    await vi.waitFor(() => expect(all.every(({ frames }) => frames.length === 1)).toBe(true));
  });

  it('that come from a gateway which is ahead wait for this one to look, and get everything if Redis lost that', async () => {
    change('a', 's1');
    changesSince.mockImplementation((point) => Promise.resolve({ ...point, full: false, workers: [], removed: [] }));
    const [ahead, lost] = clients(2) as [TestClient, TestClient];
    refresh.mockImplementationOnce(() => {
      change('a', 's2');
      return Promise.resolve();
    });
    push.optIn(ahead, { epoch: 'e', version: 2 });
    await vi.waitFor(() => expect(ahead.messages).toMatchObject([{ version: 2, full: false }]));
    push.optIn(lost, { epoch: 'e', version: 9 });
    await vi.waitFor(() => expect(lost.messages).toMatchObject([{ version: 2, full: true }]));
    expect(refresh).toHaveBeenCalledTimes(2);
  });

  it('of another epoch get everything', () => {
    change('a', 's1');
    const [client] = clients(1) as [TestClient];
    push.optIn(client, { epoch: 'old', version: 1 });
    expect(client.messages).toMatchObject([{ epoch: 'e', full: true }]);
    change('a', 's1', 'new');
    expect(client.messages.at(-1)).toMatchObject({ epoch: 'new', full: true });
  });

  it('that could not be served while Redis was away are served when it answers', async () => {
    change('a', 's1');
    change('a', 's2');
    changesSince.mockRejectedValueOnce(new Error('away'));
    const [client] = clients(1) as [TestClient];
    push.optIn(client, { epoch: 'e', version: 1 });
    await vi.waitFor(() => expect(errors).toHaveLength(1));
    changesSince.mockResolvedValue({ epoch: 'e', version: 2, full: false, workers: [seen('a', 's2')], removed: [] });
    push.retry();
    await vi.waitFor(() => expect(client.messages).toMatchObject([{ version: 2, workers: [{ state: 's2' }] }]));
  });

  it('that do not read are left out, and catch up from where they were', async () => {
    change('a', 's1');
    const [client] = clients(1) as [TestClient];
    push.optIn(client, undefined);
    client.buffered = BUFFER_BYTES + 1;
    for (const state of ['s2', 's3', 's4']) change('a', state);
    expect(client.frames).toHaveLength(1);
    changesSince.mockResolvedValue({ epoch: 'e', version: 4, full: false, workers: [seen('a', 's4')], removed: [] });
    client.buffered = 0;
    push.drained(client);
    await vi.waitFor(() => expect(client.messages.at(-1)).toMatchObject({ version: 4, full: false }));
    expect(changesSince).toHaveBeenCalledWith({ epoch: 'e', version: 1 });
    expect(client.frames).toHaveLength(2);
  });
});
