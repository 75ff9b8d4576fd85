/**
 * How seldom an agent may be told to report. Who says less than silence is taken for a failure would be stale, then dead, and with
 * --auto-terminate-dead be powered off, while all is well. Monitors ask for no more than this either. Pure.
 */
import type { AgentCommand } from '@carrierarr/protocol';

const INTERVALS = ['heartbeat_interval_sec', 'status_interval_sec'];

/** What is wrong with the intervals that a command sets, if it sets any. */
export function problemOfIntervals({ type, args }: AgentCommand, staleMs: number): string | undefined {
  if (type !== 'UPDATE_CONFIG') return undefined;
  const mostSeconds = Math.floor(staleMs / 2_000);
  const name = INTERVALS.find((each) => Number(args[each] ?? 0) > mostSeconds);
  if (name === undefined) return undefined;
  return (
    `Expected \`${name}\` to be at most ${mostSeconds}, half of the monitors' \`--stale-timeout\`, got ${JSON.stringify(args[name])}: ` +
    'the node would count as stale between two reports.'
  );
}
