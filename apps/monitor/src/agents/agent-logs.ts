/** What agents log of themselves becomes lines of kind `log` of their target. Too many are dropped, and counted. */
import { type Clock, TokenBuckets } from '@carrierarr/platform';
import type { LogEntry } from '@carrierarr/protocol/agent-control';
import type { CommandStore } from '@carrierarr/store';
import type { Identity } from './agent-stream.js';
import { logEntriesOf, logLinesOf } from './log-lines.js';
import type { AgentMetrics } from './metrics.js';
import type { NodeTargets } from './node-targets.js';

/** Lines that may come at once, as a multiple of those per second. */
const BURST = 5;

export interface AgentLogsOptions {
  store: Pick<CommandStore, 'appendLog'>;
  targets: NodeTargets;
  linesPerSecond: number;
  now: () => number;
  clock: Clock;
  metrics: AgentMetrics;
}

export class AgentLogs {
  readonly #o: AgentLogsOptions;
  readonly #lines: TokenBuckets;

  constructor(options: AgentLogsOptions) {
    this.#o = options;
    this.#lines = new TokenBuckets({ perSecond: options.linesPerSecond, burst: BURST * options.linesPerSecond });
  }

  /** Rejects if Redis does not take all of it: the rest is lost then, as the agent's own log has it. */
  async take(node: Identity, entry: LogEntry): Promise<void> {
    const { store, targets, now, clock, metrics } = this.#o;
    const lines = logLinesOf(entry);
    metrics.logLines.inc(lines.length);
    if (this.#lines.take(node.key, clock.monotonicMs(), lines.length) > 0) {
      metrics.logLinesDropped.inc(lines.length);
      return;
    }
    const target = await targets.of(node);
    for (const each of logEntriesOf(lines, now())) await store.appendLog(target, each.lines, each.entry);
  }
}
