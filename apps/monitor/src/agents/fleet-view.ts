/** All nodes, as `GetFleetStatus` shows them. Asked often, it looks at Redis twice a second at most. */
import type { Clock } from '@carrierarr/platform';
import { livenessOf, type NodeSummary, nodeSummaryOf } from '@carrierarr/protocol';
import type { NodeFollow } from '@carrierarr/store';
import type { NodeTargets } from './node-targets.js';

const FRESH_MS = 500;

export class FleetView {
  readonly #o: { follow: NodeFollow; targets: NodeTargets; clock: Clock };
  #summaries: Promise<NodeSummary[]> | undefined;
  #readMs = -Infinity;

  constructor(options: { follow: NodeFollow; targets: NodeTargets; clock: Clock }) {
    this.#o = options;
  }

  async summaries(): Promise<NodeSummary[]> {
    const nowMs = this.#o.clock.monotonicMs();
    if (this.#summaries === undefined || nowMs - this.#readMs >= FRESH_MS) {
      this.#readMs = nowMs;
      const reading = this.#read();
      this.#summaries = reading;
      reading.catch(() => {
        if (this.#summaries === reading) this.#summaries = undefined;
      });
    }
    return this.#summaries;
  }

  async #read(): Promise<NodeSummary[]> {
    const { follow, targets } = this.#o;
    await follow.refresh();
    const nodes = [...follow.nodes.values()];
    const names = await targets.ofAll(nodes);
    return nodes.map((node, i) =>
      nodeSummaryOf(node, {
        liveness: livenessOf(node, follow.listening, follow.limits, follow.nowMs),
        target: names[i] ?? node.name,
      }),
    );
  }
}
