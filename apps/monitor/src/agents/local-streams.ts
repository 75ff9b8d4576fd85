/** The open streams of this monitor, by the nodes they belong to. */
import type { AgentStream } from './agent-stream.js';

export class LocalStreams {
  readonly #all = new Set<AgentStream>();
  /** By every key and name that the node went by while its stream was open. */
  readonly #byName = new Map<string, AgentStream>();
  /** Kept after a stream has ended: what came over it before counts. */
  readonly #names = new WeakMap<AgentStream, Set<string>>();

  get size(): number {
    return this.#all.size;
  }

  [Symbol.iterator](): Iterator<AgentStream> {
    return this.#all[Symbol.iterator]();
  }

  add(stream: AgentStream): void {
    this.#all.add(stream);
  }

  /** It is known by these now, too. Returns another open stream that was, which is of the same node. */
  name(stream: AgentStream, names: readonly string[]): AgentStream | undefined {
    const own = this.#names.get(stream) ?? new Set();
    this.#names.set(stream, own);
    let other: AgentStream | undefined;
    for (const name of names) {
      own.add(name);
      if (!this.#all.has(stream)) continue;
      const holder = this.#byName.get(name);
      if (holder !== undefined && holder !== stream) other = holder;
      this.#byName.set(name, stream);
    }
    return other;
  }

  /** The stream of a node, by any of its names. */
  find(node: string): AgentStream | undefined {
    return this.#byName.get(node);
  }

  /** True if that is, or was, the node whose stream it is. */
  isOf(stream: AgentStream, node: string): boolean {
    return this.#names.get(stream)?.has(node) ?? false;
  }

  remove(stream: AgentStream): void {
    this.#all.delete(stream);
    for (const name of this.#names.get(stream) ?? []) if (this.#byName.get(name) === stream) this.#byName.delete(name);
  }
}
