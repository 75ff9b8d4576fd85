/**
 * Who watches what: the members of each feed, the clients that watch everything, and those with patterns, who become
 * members of feeds as targets appear. Only keeps account; what a change means for output on its way is `fanout.ts`'s.
 */
import type { Client } from './client.js';
import type { Feed } from './feed.js';

const NOBODY: ReadonlySet<Client> = new Set();

export class Membership {
  readonly #everything = new Set<Client>();
  readonly #patterned = new Set<Client>();
  readonly #members = new WeakMap<Feed, Set<Client>>();
  /** Clients that have the feed among theirs, also while they watch everything and so are no members of it. */
  readonly #holders = new WeakMap<Feed, Set<Client>>();

  /** Clients that watch everything. They are members of no feed. */
  get everything(): ReadonlySet<Client> {
    return this.#everything;
  }

  /** Clients with patterns: asked when a new target appears. */
  get patterned(): ReadonlySet<Client> {
    return this.#patterned;
  }

  /** True if somebody wants targets that nobody named. */
  get needsAll(): boolean {
    return this.#everything.size > 0 || this.#patterned.size > 0;
  }

  membersOf(feed: Feed): ReadonlySet<Client> {
    return this.#members.get(feed) ?? NOBODY;
  }

  /**
   * True if somebody needs this very feed, now or when it ceases to watch everything: it would then wait for entries of a
   * feed that was forgotten, while another one gets them.
   */
  wants(feed: Feed): boolean {
    return feed.watchers.size > 0 || (this.#holders.get(feed)?.size ?? 0) > 0;
  }

  /** The client is gone. */
  remove(client: Client): void {
    this.#everything.delete(client);
    this.#patterned.delete(client);
    for (const feed of client.feeds ?? []) {
      this.#members.get(feed)?.delete(client);
      this.#holders.get(feed)?.delete(client);
    }
  }

  join(client: Client, feed: Feed): void {
    client.feeds ??= new Set();
    client.feeds.add(feed);
    addTo(this.#holders, feed, client);
    if (client.everything === 'no') addTo(this.#members, feed, client);
  }

  leave(client: Client, feed: Feed): void {
    client.feeds?.delete(feed);
    this.#holders.get(feed)?.delete(client);
    this.#members.get(feed)?.delete(client);
  }

  watchEverything(client: Client, how: 'implicit' | 'explicit'): void {
    for (const feed of client.feeds ?? []) this.#members.get(feed)?.delete(client);
    client.everything = how;
    this.#everything.add(client);
  }

  /** It watches only its feeds from now on. */
  unwatchEverything(client: Client): void {
    client.everything = 'no';
    this.#everything.delete(client);
    for (const feed of client.feeds ?? []) addTo(this.#members, feed, client);
  }

  addPattern(client: Client, pattern: string, matches: (target: string) => boolean): void {
    client.patterns ??= new Map();
    client.patterns.set(pattern, matches);
    this.#patterned.add(client);
  }

  /** False if it had no such pattern. */
  removePattern(client: Client, pattern: string): boolean {
    if (!client.patterns?.delete(pattern)) return false;
    if (client.patterns.size === 0) this.#patterned.delete(client);
    return true;
  }
}

function addTo(sets: WeakMap<Feed, Set<Client>>, feed: Feed, client: Client): void {
  const set = sets.get(feed);
  if (set === undefined) sets.set(feed, new Set([client]));
  else set.add(client);
}
