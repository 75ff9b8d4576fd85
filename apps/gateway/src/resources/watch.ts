/**
 * `GET /api/v1/workers?watch=true`: what there is and then each change, a JSON object a line.
 *
 * One watcher is a position in the journal of resources. Changes that come are queued for it up to a bound; what came
 * before it, while continuity was lost, or beyond that bound, it reads from the journal. So it can begin at any revision
 * that the journal still reaches, at any gateway, and read as slowly as it likes: it is ended, with a line that says so,
 * only when the journal does not reach back to it any more. BOOKMARK lines say up to where it is complete, also when
 * nothing changes.
 */
import type { Clock } from '@carrierarr/platform';
import { ClientError, ERRORS, type Resource, type ResourceKind, type WatchLine } from '@carrierarr/protocol';
import type { FollowedChange, ResourceFollow, ResourceStore } from '@carrierarr/store';
import type { Credential } from '../access/authenticate.js';
import type { ConnectionLimits } from '../access/connection-limits.js';
import type { Exchange } from '../http/exchange.js';
import { RedisAwayError, type RedisHealth } from '../redis-health.js';
import type { LabelSelector } from './label-selector.js';

/** Changes that wait for one watcher, which goes on from the journal beyond that; they are shared with the others. */
const WAITING_MAX = 1_000;
/** Changes read from the journal at once. */
const JOURNAL_PAGE = 500;
/** Bytes gathered for one write. */
const WRITE_BYTES = 64 * 1024;
/** How often a watcher looks whether its token still holds. */
const TICK_MS = 5_000;
export const BOOKMARK_MS = 30_000;
const BOOKMARK_TICKS = BOOKMARK_MS / TICK_MS;

export interface WatchDependencies {
  store: Pick<ResourceStore, 'changesSince'>;
  follow: Pick<ResourceFollow, 'resources' | 'onChange'>;
  redis: RedisHealth;
  /** Watchers count as connections. */
  limits: ConnectionLimits;
  clock: Clock;
  stillValid: (credential: Credential) => boolean;
  /** A watcher has more waiting than is queued, and goes on from the journal. */
  onBehind: () => void;
}

export interface WatchRequest {
  kind: ResourceKind;
  matches: LabelSelector;
  /** Undefined: from all there is. */
  resourceVersion: string | undefined;
  credential: Credential;
}

type Change = Exclude<FollowedChange, { type: 'RESET' }>;

export class WatchRoute {
  readonly #d: WatchDependencies;
  readonly #watchers = new Set<Watcher>();
  #isStopped = false;

  constructor(dependencies: WatchDependencies) {
    this.#d = dependencies;
  }

  /** Watchers now. */
  get watching(): number {
    return this.#watchers.size;
  }

  /** Ends the answers of all watchers, as the gateway shuts down. */
  stop(): void {
    this.#isStopped = true;
    for (const watcher of this.#watchers) watcher.end(draining());
  }

  /** Answers; resolves when all is said. Throws ClientError before anything is said, and ClientGoneError. */
  async serve(exchange: Exchange, request: WatchRequest): Promise<void> {
    const { limits, clock, follow, stillValid } = this.#d;
    const headers = { 'Content-Type': 'application/x-ndjson; charset=utf-8' };
    if (exchange.method === 'HEAD') {
      exchange.answer({ status: 200, headers });
      return;
    }
    if (this.#isStopped) throw draining();
    const release = limits.admit(exchange.facts.address);
    const watcher = new Watcher(exchange, request, this.#d);
    this.#watchers.add(watcher);
    // Before the journal is read, so that nothing can come between.
    const unfollow = follow.onChange((change) => watcher.hear(change));
    let ticks = 0;
    const timer = clock.setInterval(() => {
      ticks += 1;
      if (!stillValid(request.credential)) {
        watcher.end(new ClientError('unauthenticated', 'The token of this watch has expired or was taken back.'));
      } else if (ticks % BOOKMARK_TICKS === 0) {
        watcher.bookmark();
      } else {
        watcher.wake();
      }
    }, TICK_MS);
    exchange.onGone(() => watcher.wake());
    try {
      await watcher.open();
      exchange.begin(200, headers);
      await watcher.run();
    } catch (error) {
      // Without an ERROR line it must not look complete.
      exchange.cut();
      throw error;
    } finally {
      this.#watchers.delete(watcher);
      timer.cancel();
      unfollow();
      release();
    }
  }
}

class Watcher {
  readonly #exchange: Exchange;
  readonly #kind: ResourceKind;
  readonly #matches: LabelSelector;
  readonly #d: WatchDependencies;
  /** Names to whether they matched when last seen. One that is not in here was perhaps seen before a resumption. */
  readonly #matched = new Map<string, boolean>();
  readonly #isResumed: boolean;
  /** What it has been told up to. */
  #after: string;
  #waiting: Change[] = [];
  /** The journal must be read from {@link #after} on before what waits makes sense. */
  #needsJournal: boolean;
  #first: readonly Resource[] = [];
  #owesBookmark = true;
  #ending: ClientError | undefined;
  #wake: (() => void) | undefined;
  #isAwake = true;

  constructor(exchange: Exchange, { kind, matches, resourceVersion }: WatchRequest, dependencies: WatchDependencies) {
    this.#exchange = exchange;
    this.#kind = kind;
    this.#matches = matches;
    this.#d = dependencies;
    const { resources } = dependencies.follow;
    this.#isResumed = resourceVersion !== undefined;
    this.#needsJournal = this.#isResumed;
    this.#after = resourceVersion ?? resources.resourceVersion;
    if (!this.#isResumed) this.#first = resources.list(kind);
  }

  /** Sees whether its revision can be had, while that can still be answered with a status. */
  async open(): Promise<void> {
    if (!this.#isResumed) return;
    const { store, redis } = this.#d;
    const answer = await redis.bounded(() => store.changesSince(this.#after, 1));
    if (answer.kind === 'expired') throw expired(this.#after);
  }

  hear(change: FollowedChange): void {
    if (change.type === 'RESET') {
      this.#needsJournal = true;
      this.#waiting = [];
    } else if (!this.#needsJournal) {
      if (this.#waiting.length < WAITING_MAX) this.#waiting.push(change);
      else this.#fallBehind();
    }
    this.wake();
  }

  /** What waits is dropped: the journal has it, and takes no memory here. */
  #fallBehind(): void {
    this.#needsJournal = true;
    this.#waiting = [];
    this.#d.onBehind();
  }

  bookmark(): void {
    this.#owesBookmark = true;
    this.wake();
  }

  /** Ends it, with a last line that says why. */
  end(why: ClientError): void {
    this.#ending ??= why;
    this.wake();
  }

  wake(): void {
    this.#isAwake = true;
    this.#wake?.();
    this.#wake = undefined;
  }

  async run(): Promise<void> {
    await this.#write(this.#first.map((object) => this.#lineOf('ADDED', object)));
    this.#first = [];
    while (!this.#exchange.isGone && this.#ending === undefined) {
      this.#isAwake = false;
      try {
        if (this.#needsJournal) await this.#readJournal();
      } catch (error) {
        // While Redis is away nothing changes; it goes on when the next change or tick wakes it.
        if (!(error instanceof RedisAwayError)) throw error;
      }
      const waiting = this.#waiting;
      this.#waiting = [];
      await this.#tell(waiting);
      if (this.#owesBookmark && !this.#needsJournal && this.#waiting.length === 0) await this.#writeBookmark();
      await this.#untilAwake();
    }
    if (this.#ending === undefined) return;
    const { message, code, retryable } = this.#ending;
    await this.#write([
      `${JSON.stringify({ type: 'ERROR', object: { error: message, code, retryable } } satisfies WatchLine)}\n`,
    ]);
    this.#exchange.end();
  }

  async #readJournal(): Promise<void> {
    const { store, redis } = this.#d;
    // What comes from here on waits; where both tell of it, it is told once.
    this.#needsJournal = false;
    try {
      for (;;) {
        const answer = await redis.bounded(() => store.changesSince(this.#after, JOURNAL_PAGE));
        if (answer.kind === 'expired') return this.end(expired(this.#after));
        await this.#tell(answer.changes);
        if (answer.changes.length < JOURNAL_PAGE) return;
      }
    } catch (error) {
      this.#needsJournal = true;
      this.#waiting = [];
      throw error;
    }
  }

  async #tell(changes: readonly Change[]): Promise<void> {
    const lines: string[] = [];
    for (const change of changes) {
      if (Number(change.resourceVersion) <= Number(this.#after)) continue;
      this.#after = change.resourceVersion;
      if (change.object.kind === this.#kind) lines.push(this.#lineOf(change.type, change.object));
    }
    await this.#write(lines);
  }

  /** As the selector sees it: one that begins to match is added, one that no longer does is deleted. Empty: nothing. */
  #lineOf(type: Change['type'], object: Resource): string {
    const { name, labels } = object.metadata;
    const matches = this.#matches(labels);
    const matched = this.#matched.get(name) ?? (type === 'ADDED' ? false : this.#isResumed ? 'perhaps' : false);
    if (type === 'DELETED') this.#matched.delete(name);
    else this.#matched.set(name, matches);
    if (type === 'DELETED') return matched === false && !matches ? '' : textOf('DELETED', object);
    if (matches) return textOf(matched === false ? 'ADDED' : 'MODIFIED', object);
    return matched === false ? '' : textOf('DELETED', object);
  }

  async #writeBookmark(): Promise<void> {
    this.#owesBookmark = false;
    const object = { kind: this.#kind, metadata: { resourceVersion: this.#after } };
    await this.#write([`${JSON.stringify({ type: 'BOOKMARK', object } satisfies WatchLine)}\n`]);
  }

  async #write(lines: readonly string[]): Promise<void> {
    let gathered = '';
    for (const line of lines) {
      gathered += line;
      if (gathered.length < WRITE_BYTES) continue;
      await this.#exchange.write(gathered);
      gathered = '';
    }
    if (gathered !== '') await this.#exchange.write(gathered);
  }

  async #untilAwake(): Promise<void> {
    if (this.#isAwake || this.#ending !== undefined) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }
}

/** Each change is written the same for all its watchers. */
const texts = new WeakMap<Resource, Map<Change['type'], string>>();

function textOf(type: Change['type'], object: Resource): string {
  let made = texts.get(object);
  if (made === undefined) texts.set(object, (made = new Map()));
  let text = made.get(type);
  if (text === undefined) made.set(type, (text = `${JSON.stringify({ type, object } satisfies WatchLine)}\n`));
  return text;
}

function expired(resourceVersion: string): ClientError {
  return new ClientError(
    'expired',
    `The changes after resourceVersion ${resourceVersion} can no longer be had. List again, and watch from the list's version. ${ERRORS.expired.meaning}`,
  );
}

function draining(): ClientError {
  return new ClientError('draining', 'This gateway is shutting down. Go on from the last version, at another.');
}
