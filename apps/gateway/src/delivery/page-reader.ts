/**
 * Reading log pages for clients that are behind. Many clients fall behind together and want the same part of the same
 * log: pages are kept for a moment and shared, and only a few are read at once, so that catching up never crowds out
 * the live tail's own reads.
 */
import type { LogPage, OutputLog } from '@carrierarr/store';

const PAGE_BYTES = 512 * 1024;
const PAGES_KEPT_BYTES_MAX = 16 * 1024 * 1024;
const READS_AT_ONCE_MAX = 8;

interface Kept {
  target: string;
  after: number;
  page: LogPage;
  bytes: number;
}

export class PageReader {
  readonly #log: Pick<OutputLog, 'read'>;
  #kept: Kept[] = [];
  #keptBytes = 0;
  readonly #reading = new Map<string, Promise<LogPage>>();
  #active = 0;
  readonly #waiting: (() => void)[] = [];
  /** Entries asked for of each target: follows the size of what came last. */
  readonly #entriesMax = new Map<string, number>();

  constructor(log: Pick<OutputLog, 'read'>) {
    this.#log = log;
  }

  /** A page of the target's log that holds what follows `after`, if anything does. */
  async read(target: string, after: number, epoch: string): Promise<LogPage> {
    const kept = this.#kept.find(
      (item) => item.target === target && item.page.epoch === epoch && item.after <= after && lastOf(item.page) > after,
    );
    if (kept !== undefined) return kept.page;
    const key = `${after} ${target}`;
    let reading = this.#reading.get(key);
    if (reading === undefined) {
      reading = this.#readNow(target, after).finally(() => this.#reading.delete(key));
      this.#reading.set(key, reading);
    }
    return reading;
  }

  async #readNow(target: string, after: number): Promise<LogPage> {
    if (this.#active >= READS_AT_ONCE_MAX) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#active += 1;
    try {
      const page = await this.#log.read(target, after, this.#entriesMax.get(target) ?? 64);
      this.#keep(target, after, page);
      return page;
    } finally {
      this.#active -= 1;
      this.#waiting.shift()?.();
    }
  }

  #keep(target: string, after: number, page: LogPage): void {
    if (page.entries.length === 0) return;
    const bytes = page.entries.reduce(
      (sum, { entry }) => sum + 200 + (entry.kind === 'lines' ? entry.body.length : 0),
      0,
    );
    const entriesMax = Math.ceil((page.entries.length * PAGE_BYTES) / bytes);
    if (this.#entriesMax.size > 1_000) this.#entriesMax.clear();
    this.#entriesMax.set(target, Math.max(8, Math.min(4_096, entriesMax)));
    this.#kept.push({ target, after, page, bytes });
    this.#keptBytes += bytes;
    while (this.#keptBytes > PAGES_KEPT_BYTES_MAX) this.#keptBytes -= this.#kept.shift()?.bytes ?? 0;
  }

  /** Forgets kept pages: nobody is behind any more. */
  clear(): void {
    this.#kept = [];
    this.#keptBytes = 0;
  }
}

function lastOf(page: LogPage): number {
  return page.entries.at(-1)?.last ?? 0;
}
