/** Watches of resources, at real gateways on a real Redis. */
import { request, type ClientRequest, type IncomingMessage } from 'node:http';
import { ERRORS, type Resource, type WatchLine, watchLineSchema } from '@carrierarr/protocol';
import { createResource, type ResourceStore } from '@carrierarr/store';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { writeFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeClock } from '@carrierarr/platform';
import { ConnectionLimits } from '../../../apps/gateway/src/access/connection-limits.js';
import type { Exchange } from '../../../apps/gateway/src/http/exchange.js';
import { manifestOf } from '../../../apps/gateway/src/resources/manifest.js';
import { BOOKMARK_MS, WatchRoute } from '../../../apps/gateway/src/resources/watch.js';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { type HttpGateway, startHttpGateway } from '../http/http-gateway.js';

let redis: TestRedis;
let gw: HttpGateway;
const cleanups: (() => unknown)[] = [];

beforeEach(async () => {
  redis = await startRedis({ appendOnly: true });
  gw = await startHttpGateway(redis);
  cleanups.push(
    () => redis.stop(),
    () => gw.stop(),
  );
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

function resource(name: string, { labels = {}, kind = 'Worker' }: { labels?: object; kind?: Resource['kind'] } = {}) {
  const spec = kind === 'Worker' ? {} : { replicas: 1, template: { spec: {} } };
  const manifest = manifestOf({ apiVersion: 'carrierarr.io/v1', kind, metadata: { name, labels }, spec });
  return createResource(manifest, { uid: 'u', nowIso: new Date().toISOString() }) as Resource;
}

/** Writes past the gateway; returns the revision. */
async function write(name: string, labels: object = {}): Promise<string> {
  const answer = await gw.resourceStore.put(resource(name, { labels }), undefined);
  if (answer.kind !== 'ok') throw new Error(answer.kind);
  return answer.resource.metadata.resourceVersion;
}

class Watch {
  readonly lines: WatchLine[] = [];
  status: number | undefined;
  hasEnded = false;
  wasCut = false;
  readonly #request: ClientRequest;
  response: IncomingMessage | undefined;

  constructor(query = '', { port = gw.port, kind = 'workers', headers = {} } = {}) {
    const path = `/api/v1/${kind}?watch=true${query}`;
    this.#request = request({ host: '127.0.0.1', port, path, headers, agent: false });
    this.#request.on('error', () => undefined);
    this.#request.on('response', (response) => {
      this.response = response;
      this.status = response.statusCode ?? 0;
      let rest = '';
      response.on('data', (chunk: Buffer) => {
        const parts = (rest + chunk.toString()).split('\n');
        rest = parts.pop() ?? '';
        if (this.status === 200) for (const line of parts) this.lines.push(watchLineSchema.parse(JSON.parse(line)));
      });
      response.on('end', () => {
        this.hasEnded = response.complete;
      });
      response.on('aborted', () => {
        this.wasCut = true;
      });
      response.on('error', () => undefined);
    });
    this.#request.end();
    cleanups.push(() => this.stop());
  }
  stop(): void {
    this.#request.destroy();
  }
  /** `TYPE name` of each change. */
  get changes(): string[] {
    return this.lines.flatMap((line) =>
      line.type === 'BOOKMARK' || line.type === 'ERROR' ? [] : [`${line.type} ${line.object.metadata.name}`],
    );
  }
  /** Where it can be resumed. */
  get version(): string | undefined {
    return this.lines.flatMap((line) => (line.type === 'ERROR' ? [] : [line.object.metadata.resourceVersion])).at(-1);
  }
  async sees(...changes: string[]): Promise<void> {
    await vi.waitFor(() => expect(this.changes).toEqual(changes), { timeout: 5_000 });
  }
}

const bookmarks = (watch: Watch) => watch.lines.filter(({ type }) => type === 'BOOKMARK');

describe('a watch', () => {
  it('begins with all there is, says up to where that is complete, and goes on with each change', async () => {
    await write('b');
    await write('a');
    await gw.resourceStore.put(resource('p', { kind: 'WorkerPool' }), undefined);
    await vi.waitFor(async () => expect(gw.follow.resources.resourceVersion).toBe(await gw.resourceStore.revision()));
    const watch = new Watch();
    const pools = new Watch('', { kind: 'workerpools' });
    await watch.sees('ADDED a', 'ADDED b');
    await vi.waitFor(() => expect(bookmarks(watch)).toHaveLength(1));
    expect(watch.version).toBe(await gw.resourceStore.revision());
    await write('b', { x: 'y' });
    await gw.resourceStore.remove('Worker', 'a', undefined);
    await watch.sees('ADDED a', 'ADDED b', 'MODIFIED b', 'DELETED a');
    await pools.sees('ADDED p');
    expect(gw.limits.total).toBe(2);
    watch.stop();
    pools.stop();
    await vi.waitFor(() => expect(gw.limits.total).toBe(0));
  });

  it('of nothing is answered at once', async () => {
    const watch = new Watch();
    await vi.waitFor(() =>
      expect(watch.lines).toEqual([
        { type: 'BOOKMARK', object: { kind: 'Worker', metadata: { resourceVersion: '0' } } },
      ]),
    );
  });

  it('is resumed at another gateway, with nothing missing and nothing twice', async () => {
    await write('a');
    const first = new Watch();
    await first.sees('ADDED a');
    await write('b');
    await first.sees('ADDED a', 'ADDED b');
    const { version } = first;
    gw.http.stop();
    await vi.waitFor(() => expect(first.lines.at(-1)).toMatchObject({ type: 'ERROR', object: { code: 'draining' } }));
    await vi.waitFor(() => expect(first.hasEnded).toBe(true));
    await gw.stop();

    gw = await startHttpGateway(redis);
    for (let i = 0; i < 1_200; i += 1) await write(`c${i % 3}`, { i: String(i) });
    const second = new Watch(`&resourceVersion=${version}`);
    await vi.waitFor(() => expect(second.changes).toHaveLength(1_200), { timeout: 10_000 });
    await write('d');
    await vi.waitFor(() => expect(second.changes.at(-1)).toBe('ADDED d'), { timeout: 5_000 });
    const versions = second.lines.flatMap((line) =>
      line.type === 'ERROR' ? [] : [Number(line.object.metadata.resourceVersion)],
    );
    expect(versions).toEqual(versions.toSorted((a, b) => a - b));
    expect(second.changes.slice(0, 4)).toEqual(['ADDED c0', 'ADDED c1', 'ADDED c2', 'MODIFIED c0']);
    expect(second.changes).toHaveLength(1_201);
  });

  it('from a version that is none any more is refused: before it begins, or by its last line', async () => {
    await write('a');
    const watch = new Watch();
    await watch.sees('ADDED a');
    for (const version of ['1', '9999999999999999']) {
      const late = new Watch(`&resourceVersion=${version}`);
      await vi.waitFor(() => expect(late.status).toBe(ERRORS.expired.http));
    }
    const wrong = new Watch('&resourceVersion=x');
    await vi.waitFor(() => expect(wrong.status).toBe(400));
    // Redis loses everything.
    await gw.connection.flushall();
    await gw.connection.spublish(gw.keys.resourceChannel(), '');
    await vi.waitFor(() => expect(watch.lines.at(-1)).toMatchObject({ type: 'ERROR', object: { code: 'expired' } }), {
      timeout: 5_000,
    });
    expect(watch.hasEnded).toBe(true);
  });

  it('goes on when Redis was away', async () => {
    const watch = new Watch();
    await vi.waitFor(() => expect(bookmarks(watch)).toHaveLength(1));
    await redis.kill();
    await vi.waitFor(() => expect(gw.health.state.kind).toBe('degraded'), { timeout: 5_000 });
    await redis.start();
    await vi.waitFor(() => expect(gw.health.state.kind).toBe('available'), { timeout: 5_000 });
    await write('a');
    await watch.sees('ADDED a');
  });

  it('with a selector sees what begins to match as added, and what no longer does as deleted', async () => {
    await write('a', { env: 'prod' });
    await write('b', { env: 'test' });
    await vi.waitFor(() => expect(gw.follow.resources.get('Worker', 'b')).toBeDefined(), { timeout: 5_000 });
    const watch = new Watch('&labelSelector=env=prod');
    await watch.sees('ADDED a');
    await vi.waitFor(() => expect(bookmarks(watch)).toHaveLength(1));
    const { version } = watch;
    await write('b', { env: 'prod' });
    await write('b', { env: 'prod', x: 'y' });
    await write('a', { env: 'test' });
    await write('a', { env: 'test', x: 'y' });
    await write('c', { env: 'test' });
    await gw.resourceStore.remove('Worker', 'c', undefined);
    await gw.resourceStore.remove('Worker', 'b', undefined);
    await watch.sees('ADDED a', 'ADDED b', 'MODIFIED b', 'DELETED a', 'DELETED b');
    // Who resumes may have known `a`, and is told once that it is none of its any more.
    const resumed = new Watch(`&labelSelector=env=prod&resourceVersion=${version}`);
    await resumed.sees('MODIFIED b', 'MODIFIED b', 'DELETED a', 'DELETED b');
  });

  it('is bounded in number, as connections are', async () => {
    const other = await startHttpGateway(redis, ['--connections-per-address-max', '2']);
    cleanups.push(() => other.stop());
    const { port } = other;
    const watches = [new Watch('', { port }), new Watch('', { port })];
    await vi.waitFor(() => expect(watches.every(({ status }) => status === 200)).toBe(true));
    const third = new Watch('', { port });
    await vi.waitFor(() => expect(third.status).toBe(ERRORS.too_many_connections.http));
    watches[0]?.stop();
    await vi.waitFor(() => expect(other.limits.total).toBe(1));
  });

  it('ends when its token is taken back', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'carrierarr-watch-'));
    cleanups.push(() => rm(folder, { recursive: true }));
    const file = join(folder, 'tokens');
    await writeFile(file, 'alice a-token-of-alice-1234567890\n');
    const other = await startHttpGateway(redis, ['--tokens-file', file]);
    cleanups.push(() => other.stop());
    const watch = new Watch('', { port: other.port, headers: { authorization: 'Bearer a-token-of-alice-1234567890' } });
    await vi.waitFor(() => expect(watch.status).toBe(200));
    await writeFile(file, 'bob a-token-of-bob-123456789012345\n');
    await vi.waitFor(
      () => expect(watch.lines.at(-1)).toMatchObject({ type: 'ERROR', object: { code: 'unauthenticated' } }),
      { timeout: 15_000 },
    );
  });
});

describe('a watcher, on a clock of its own', () => {
  /** Takes what a watch writes; reads only when told. */
  function slowExchange() {
    const written: string[] = [];
    let taken: (() => void) | undefined;
    const slow = {
      ...{ written, isGone: false, reads: true, hasEnded: false, wasCut: false },
      exchange: undefined as unknown as Exchange,
      read() {
        slow.reads = true;
        taken?.();
      },
      types: () =>
        written.flatMap((text) =>
          text
            .trim()
            .split('\n')
            .map((line) => (JSON.parse(line) as WatchLine).type),
        ),
    };
    slow.exchange = {
      ...{ method: 'GET', facts: { address: '127.0.0.1' }, begin: () => undefined, onGone: () => undefined },
      get isGone() {
        return slow.isGone;
      },
      async write(text: string) {
        written.push(text);
        if (!slow.reads) await new Promise<void>((resolve) => (taken = resolve));
      },
      end: () => (slow.hasEnded = true),
      cut: () => (slow.wasCut = true),
    } as unknown as Exchange;
    return slow;
  }

  function build({
    store = gw.resourceStore,
    resourceVersion,
  }: { store?: Pick<ResourceStore, 'changesSince'>; resourceVersion?: string | undefined } = {}) {
    const clock = new FakeClock();
    const onBehind = vi.fn<() => void>();
    const limits = new ConnectionLimits({ connectionsMax: 10, connectionsPerAddressMax: 10 });
    const route = new WatchRoute({
      ...{ store, follow: gw.follow, redis: gw.health, limits, clock },
      stillValid: () => true,
      onBehind,
    });
    const serve = (exchange: Exchange) =>
      route.serve(exchange, {
        ...{ kind: 'Worker', matches: () => true, resourceVersion },
        credential: { kind: 'subject', subject: 's' },
      });
    return { clock, route, serve, onBehind };
  }

  it('that reads the journal while the same change comes live is told of it once', async () => {
    await write('a');
    const { resourceVersion } = (await gw.resourceStore.get('Worker', 'a'))!.metadata;
    const slow = slowExchange();
    let reads = 0;
    const store = {
      async changesSince(...args: Parameters<typeof gw.resourceStore.changesSince>) {
        reads += 1;
        if (reads === 2) {
          const written = await write('b');
          await vi.waitFor(() => expect(gw.follow.resources.resourceVersion).toBe(written), { timeout: 5_000 });
        }
        return gw.resourceStore.changesSince(...args);
      },
    };
    const { route, serve } = build({ store, resourceVersion });
    const served = serve(slow.exchange);
    await vi.waitFor(() => expect(slow.types()).toContain('BOOKMARK'), { timeout: 5_000 });
    await write('c');
    await vi.waitFor(() => expect(slow.types().filter((type) => type !== 'BOOKMARK')).toEqual(['ADDED', 'ADDED']), {
      timeout: 5_000,
    });
    expect(slow.written.join('').match(/"name":"\w"/g)).toEqual(['"name":"b"', '"name":"c"']);
    route.stop();
    await served;
  });

  it('gets a bookmark every 30 s', async () => {
    const { clock, route, serve } = build();
    const slow = slowExchange();
    const served = serve(slow.exchange);
    await vi.waitFor(() => expect(slow.types()).toEqual(['BOOKMARK']));
    await clock.advanceAsync(BOOKMARK_MS - 1);
    expect(slow.types()).toHaveLength(1);
    await clock.advanceAsync(1);
    expect(slow.types()).toEqual(['BOOKMARK', 'BOOKMARK']);
    expect(route.watching).toBe(1);
    route.stop();
    await served;
    expect([slow.types().at(-1), slow.hasEnded, route.watching]).toEqual(['ERROR', true, 0]);
  });

  /** Reads nothing while more changes come than are queued for it. */
  async function fallBehind() {
    const built = build();
    const slow = slowExchange();
    const served = built.serve(slow.exchange);
    await vi.waitFor(() => expect(slow.types()).toHaveLength(1));
    slow.reads = false;
    // Not all at once: the last of them would wait for longer than a call may take.
    for (let from = 0; from < 2_000; from += 200) {
      await Promise.all(Array.from({ length: 200 }, (_, i) => write('a', { i: String(from + i) })));
    }
    const last = await gw.resourceStore.revision();
    await vi.waitFor(() => expect(gw.follow.resources.resourceVersion).toBe(last), { timeout: 15_000 });
    expect(slow.types().length).toBeLessThan(1_000);
    expect(built.onBehind).toHaveBeenCalled();
    return { ...built, slow, served };
  }

  it('that reads too slowly misses nothing: it goes on from the journal', async () => {
    const { route, slow, served } = await fallBehind();
    slow.read();
    await vi.waitFor(() => expect(slow.written.join('')).toContain('"i":"1999"'), { timeout: 15_000 });
    const told = slow.written.join('').match(/"i":"\d+"/g);
    expect(told).toEqual(Array.from({ length: 2_000 }, (_, i) => `"i":"${i}"`));
    // And live again.
    await write('b');
    await vi.waitFor(() => expect(slow.written.join('')).toContain('"name":"b"'), { timeout: 15_000 });
    expect(slow.types()).not.toContain('ERROR');
    route.stop();
    await served;
  });

  it('that reads so slowly that the journal does not reach back to it is ended, and told so', async () => {
    const { slow, served } = await fallBehind();
    await gw.connection.xtrim(gw.keys.resourceJournal(), 'MAXLEN', 1);
    slow.read();
    await served;
    expect(JSON.parse(slow.written.at(-1) as string)).toMatchObject({ type: 'ERROR', object: { code: 'expired' } });
    expect(slow.hasEnded).toBe(true);
  });
});
