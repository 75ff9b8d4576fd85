/**
 * Reading log pages for clients that are behind. Many clients fall behind together and want the same part of the same
 * log: pages are kept for a moment and shared, and only a few are read at once, so that catching up never crowds out
 * the live tail's own reads.
 */
import type { LogPage, OutputLog } from '@carrierarr/store';
import { Turns } from './turns.js';

const PAGE_BYTES = 512 * 1024;
const PAGES_KEPT_BYTES_MAX = 16 * 1024 * 1024;
/** Pages kept of one target: they are looked through for each read. */
const PAGES_KEPT_PER_TARGET_MAX = 64;
const READS_AT_ONCE_MAX = 8;

interface Kept {
  target: string;
  after: number;
  page: LogPage;
  bytes: number;
}

export class PageReader {
  readonly #log: Pick<OutputLog, 'read'>;
  /** Kept pages of each target, oldest first. */
  readonly #kept = new Map<string, Kept[]>();
  /** All of them, oldest first. */
  readonly #order = new Set<Kept>();
  #keptBytes = 0;
  /** Goes up when all is forgotten: what was being read then is not kept. */
  #generation = 0;
  readonly #reading = new Map<string, Promise<LogPage>>();
  readonly #turns = new Turns(READS_AT_ONCE_MAX);
  /** Entries asked for of each target: follows the size of what came last. */
  readonly #entriesMax = new Map<string, number>();

  constructor(log: Pick<OutputLog, 'read'>) {
    this.#log = log;
  }

  /** A page of the target's log that holds what follows `after`, if anything does. */
  async read(target: string, after: number, epoch: string): Promise<LogPage> {
    const kept = this.#kept
      .get(target)
      ?.find(({ page, after: start }) => page.epoch === epoch && start <= after && lastOf(page) > after);
    if (kept !== undefined) return kept.page;
    const key = `${after} ${target}`;
    let reading = this.#reading.get(key);
    if (reading === undefined) {
      reading = this.#turns.take(() => this.#readNow(target, after)).finally(() => this.#reading.delete(key));
      this.#reading.set(key, reading);
    }
    return reading;
  }

  async #readNow(target: string, after: number): Promise<LogPage> {
    const generation = this.#generation;
    const page = await this.#log.read(target, after, this.#entriesMax.get(target) ?? 64);
    if (page.entries.length > 0 && generation === this.#generation) this.#keep(target, after, page);
    return page;
  }

  #keep(target: string, after: number, page: LogPage): void {
    const bytes = page.entries.reduce(
      (sum, { entry }) => sum + 200 + (entry.kind === 'lines' ? entry.body.length : 0),
      0,
    );
    const entriesMax = Math.ceil((page.entries.length * PAGE_BYTES) / bytes);
    if (this.#entriesMax.size > 1_000) this.#entriesMax.clear();
    this.#entriesMax.set(target, Math.max(8, Math.min(4_096, entriesMax)));
    const kept = { target, after, page, bytes };
    const pages = this.#kept.get(target) ?? [];
    pages.push(kept);
    this.#kept.set(target, pages);
    this.#order.add(kept);
    this.#keptBytes += bytes;
    if (pages.length > PAGES_KEPT_PER_TARGET_MAX) this.#dropOldest(target);
    for (const oldest of this.#order) {
      if (this.#keptBytes <= PAGES_KEPT_BYTES_MAX) break;
      this.#dropOldest(oldest.target);
    }
  }

  #dropOldest(target: string): void {
    const pages = this.#kept.get(target);
    const oldest = pages?.shift();
    if (pages?.length === 0) this.#kept.delete(target);
    if (oldest === undefined) return;
    this.#order.delete(oldest);
    this.#keptBytes -= oldest.bytes;
  }

  /** Forgets kept pages: nobody is behind any more. */
  clear(): void {
    this.#generation += 1;
    this.#kept.clear();
    this.#order.clear();
    this.#keptBytes = 0;
  }
}

function lastOf(page: LogPage): number {
  return page.entries.at(-1)?.last ?? 0;
}
