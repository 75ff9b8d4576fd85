/**
 * Keys that are due later, one time a key: the earlier of two wins. A binary heap by due time; an entry that was
 * overtaken by an earlier one stays in it, dead, until it surfaces or the dead are too many.
 */
interface Entry {
  readonly key: string;
  readonly dueMs: number;
}

/** Dead entries kept beside the living, at most. */
const DEAD_MAX = 1_024;

export class Delays {
  readonly #due = new Map<string, Entry>();
  #heap: Entry[] = [];

  /** Keys that wait. */
  get size(): number {
    return this.#due.size;
  }

  /** When the next key is due; undefined without one. */
  get nextMs(): number | undefined {
    this.#dropDead();
    return this.#heap[0]?.dueMs;
  }

  /** Makes a key due at a time, unless it is due earlier already. */
  set(key: string, dueMs: number): void {
    const before = this.#due.get(key);
    if (before !== undefined && before.dueMs <= dueMs) return;
    const entry = { key, dueMs };
    this.#due.set(key, entry);
    this.#heap.push(entry);
    this.#rise(this.#heap.length - 1);
    if (this.#heap.length > 2 * this.#due.size + DEAD_MAX) this.#rebuild();
  }

  delete(key: string): void {
    this.#due.delete(key);
  }

  /** Takes a key that is due at `nowMs`, the longest due first. */
  take(nowMs: number): string | undefined {
    this.#dropDead();
    const first = this.#heap[0];
    if (first === undefined || first.dueMs > nowMs) return undefined;
    this.#removeFirst();
    this.#due.delete(first.key);
    return first.key;
  }

  #dropDead(): void {
    for (let first = this.#heap[0]; first !== undefined && this.#due.get(first.key) !== first; first = this.#heap[0])
      this.#removeFirst();
  }

  #removeFirst(): void {
    const last = this.#heap.pop();
    if (last === undefined || this.#heap.length === 0) return;
    this.#heap[0] = last;
    this.#sink(0);
  }

  #rebuild(): void {
    // A sorted array is a heap.
    this.#heap = [...this.#due.values()].toSorted((a, b) => a.dueMs - b.dueMs);
  }

  #rise(from: number): void {
    const heap = this.#heap;
    for (let at = from; at > 0;) {
      const parent = (at - 1) >> 1;
      if (this.#dueAt(parent) <= this.#dueAt(at)) return;
      [heap[at], heap[parent]] = [heap[parent] as Entry, heap[at] as Entry];
      at = parent;
    }
  }

  #sink(from: number): void {
    const heap = this.#heap;
    for (let at = from; ;) {
      const left = 2 * at + 1;
      const least = this.#dueAt(left + 1) < this.#dueAt(left) ? left + 1 : left;
      if (this.#dueAt(at) <= this.#dueAt(least)) return;
      [heap[at], heap[least]] = [heap[least] as Entry, heap[at] as Entry];
      at = least;
    }
  }

  #dueAt(index: number): number {
    return this.#heap[index]?.dueMs ?? Number.POSITIVE_INFINITY;
  }
}
