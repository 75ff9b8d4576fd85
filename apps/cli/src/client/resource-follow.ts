/**
 * A list of resources, and then each change of it, for as long as it is wanted: over lost connections, restarted gateways
 * and positions that the gateway no longer knows. What has been handed on is remembered, so nothing comes twice, and what
 * went away unseen is still told.
 */
import { backoffMs, type Clock, systemClock } from '@carrierarr/platform/light';
import type { Resource, WatchLine } from '@carrierarr/protocol';
import type { Change } from './change.js';
import type { ResourceApi, ResourcesQuery } from './resource-api.js';
import { GatewayFailure } from './unreachable.js';

export interface FollowOptions extends ResourcesQuery {
  readonly api: Pick<ResourceApi, 'list' | 'watch'>;
  /** Ends it. */
  readonly signal: AbortSignal;
  /** How long to try to reach a gateway again. */
  readonly giveUpAfterMs: number;
  /** For people: the connection was lost, is back. */
  readonly onNotice: (text: string) => void;
  readonly clock?: Clock;
  /** In [0, 1). */
  readonly random?: () => number;
}

const BACKOFF = { baseMs: 250, capMs: 10_000 };

/** First all there is, as one batch (also if it is none), then changes as they come. Throws `GatewayFailure`. */
export async function* followResources(options: FollowOptions): AsyncGenerator<Change<Resource>[], void, undefined> {
  const { api, signal, giveUpAfterMs, onNotice, clock = systemClock, random = Math.random } = options;
  const known = new Known();
  let position: string | undefined;
  let isListed = false;
  let attempt = 0;
  let lost: { readonly sinceMs: number; readonly isTold: boolean } | undefined;
  const heard = () => {
    if (lost?.isTold === true) onNotice('Connected again.');
    lost = undefined;
    attempt = 0;
  };
  while (!signal.aborted) {
    try {
      if (position === undefined) {
        const listing = await api.list(options);
        const changes = known.replaceWith(listing.items);
        position = listing.resourceVersion;
        heard();
        if (changes.length > 0 || !isListed) yield changes;
        isListed = true;
      }
      for await (const line of api.watch(options, position, signal)) {
        if (line.type === 'ERROR') throw new GatewayFailure(line.object.error, line.object.code, line.object.retryable);
        heard();
        position = later(position, line.object.metadata.resourceVersion);
        const change = line.type === 'BOOKMARK' ? undefined : known.take(line);
        if (change !== undefined) yield [change];
      }
    } catch (error) {
      if (!(error instanceof GatewayFailure)) throw error;
      if (error.code === 'expired') position = undefined;
      else if (!isListed || !isPassing(error)) throw error;
      else {
        lost ??= { sinceMs: clock.monotonicMs(), isTold: false };
        if (clock.monotonicMs() - lost.sinceMs > giveUpAfterMs) throw error;
        if (!lost.isTold) onNotice(`${error.message} Connecting again.`);
        lost = { ...lost, isTold: true };
      }
    }
    if (signal.aborted) return;
    await pause(clock, backoffMs({ attempt: attempt++, ...BACKOFF, random }), signal);
  }
}

/** True for what waiting may cure once a gateway was there: then one that does not answer is one that restarts. */
function isPassing({ code, retryable }: GatewayFailure): boolean {
  return retryable || code === 'unreachable';
}

/** The later of two versions: what is deleted comes with the version of its last change, which may be long ago. */
function later(position: string, resourceVersion: string): string {
  return Number(resourceVersion) > Number(position) ? resourceVersion : position;
}

/** Resolves after `ms`, or when `signal` says so. */
function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      timer.cancel();
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = clock.setTimeout(end, ms);
    signal.addEventListener('abort', end);
  });
}

/** What has been handed on. As many as there are resources. */
class Known {
  readonly #byName = new Map<string, Resource>();

  /** The change that a line of the watch makes to it, if any. */
  take({ type, object }: Extract<WatchLine, { type: Change<Resource>['type'] }>): Change<Resource> | undefined {
    const { name, resourceVersion } = object.metadata;
    const before = this.#byName.get(name);
    if (type === 'DELETED') {
      this.#byName.delete(name);
      return before === undefined ? undefined : { type, object };
    }
    if (before?.metadata.resourceVersion === resourceVersion) return undefined;
    this.#byName.set(name, object);
    return { type: before === undefined ? 'ADDED' : 'MODIFIED', object };
  }

  /** The changes that lead to a new list. */
  replaceWith(items: readonly Resource[]): Change<Resource>[] {
    const there = new Set(items.map(({ metadata }) => metadata.name));
    const gone = [...this.#byName.values()].filter(({ metadata }) => !there.has(metadata.name));
    return [
      ...gone.map((object) => ({ type: 'DELETED' as const, object })),
      ...items.map((object) => ({ type: 'ADDED' as const, object })),
    ].flatMap((change) => this.take(change) ?? []);
  }
}
