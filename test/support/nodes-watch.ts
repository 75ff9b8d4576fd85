/** A look at all nodes again and again while things fail: who is held for silent, and how soon all are back. */
import { until } from './until.js';

/** Between two looks, ms. */
const LOOK_MS = 250;
/** Within this all have to be back: what is promised. */
const BACK_MS = 30_000;

interface NodeRow {
  id: string;
  liveness: string;
  connected: boolean;
  stream_active: boolean;
  last_seen: string;
}

/** Looks at all nodes all the time, and remembers every answer in which one was held for silent. */
export class NodesWatch {
  readonly silent = new Set<string>();
  answers = 0;
  refusals = 0;
  #isOver = false;
  #looking: Promise<void> | undefined;

  constructor(readonly url: string) {}

  begin(): void {
    this.#looking = this.#look();
  }

  async nodes(): Promise<NodeRow[] | undefined> {
    const answer = await fetch(`${this.url}/api/v1/nodes`, { signal: AbortSignal.timeout(10_000) });
    return answer.ok ? ((await answer.json()) as NodeRow[]) : undefined;
  }

  async #look(): Promise<void> {
    while (!this.#isOver) {
      const nodes = await this.nodes().catch(() => undefined);
      if (nodes === undefined) this.refusals += 1;
      else this.answers += 1;
      for (const { id, liveness, connected } of nodes ?? [])
        if (liveness === 'stale' || liveness === 'dead' || !connected) this.silent.add(`${id} ${liveness}`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#looking;
  }

  /** Resolves to how long it took, ms, until every node was heard of since `sinceMs`, is healthy, and can be commanded if it has gRPC. */
  async back(count: number, sinceMs: number): Promise<number> {
    let missing: string[] = [];
    await until(
      () => `all nodes to be back; ${missing.length} are not: ${missing.slice(0, 10).join(', ')}`,
      async () => {
        const nodes = (await this.nodes()) ?? [];
        missing = nodes
          .filter(
            ({ id, liveness, stream_active: isStreaming, last_seen: seen }) =>
              liveness !== 'healthy' || Date.parse(seen) < sinceMs || isStreaming === id.startsWith('i-'),
          )
          .map(({ id, liveness, last_seen: seen }) => `${id} ${liveness} ${seen}`);
        return nodes.length === count && missing.length === 0;
      },
      BACK_MS,
    );
    return Date.now() - sinceMs;
  }
}
