/** Virtual time: what is to happen, in order; time jumps from one thing to the next. */
interface Item {
  atMs: number;
  order: number;
  run: () => void;
}

export class Agenda {
  nowMs: number;
  #order = 0;
  readonly #heap: Item[] = [];
  readonly #startMs: number;
  readonly #print: ((line: string) => void) | undefined;

  /** @param print gets the story, line by line, when a run is replayed */
  constructor(startMs: number, print?: (line: string) => void) {
    this.nowMs = startMs;
    this.#startMs = startMs;
    this.#print = print;
  }

  /** What happened, for whoever replays a run; only then is it put into words. */
  tell(line: () => string): void {
    this.#print?.(`${((this.nowMs - this.#startMs) / 1000).toFixed(1).padStart(7)} s  ${line()}`);
  }

  at(atMs: number, run: () => void): void {
    const heap = this.#heap;
    const item = { atMs: Math.max(atMs, this.nowMs), order: (this.#order += 1), run };
    let index = heap.push(item) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!before(item, heap[parent] as Item)) break;
      heap[index] = heap[parent] as Item;
      index = parent;
    }
    heap[index] = item;
  }

  after(delayMs: number, run: () => void): void {
    this.at(this.nowMs + delayMs, run);
  }

  /** Lets things happen until the time, or until told to stop. */
  runUntil(endMs: number, isOver: () => boolean): void {
    for (let item = this.#heap[0]; item !== undefined && item.atMs <= endMs && !isOver(); item = this.#heap[0]) {
      this.#removeFirst();
      this.nowMs = item.atMs;
      item.run();
    }
    if (!isOver()) this.nowMs = endMs;
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop() as Item;
    if (heap.length === 0) return;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Item, heap[child] as Item)) child += 1;
      if (!before(heap[child] as Item, last)) break;
      heap[index] = heap[child] as Item;
      index = child;
    }
    heap[index] = last;
  }
}

function before(a: Item, b: Item): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
