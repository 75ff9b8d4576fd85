/** Asking control scripts for the status of their targets: verb `status`, through the queue like everybody's commands. */
import { type PlacedEntry, type StreamLetter, SYSTEM_SUBJECTS } from '@carrierarr/protocol';
import {
  type CommandStore,
  DeposedError,
  type DrainQueue,
  type ExecutionHistory,
  type OutputLog,
} from '@carrierarr/store';
import type { StatusCommands, StatusExecution } from './observe/script-source.js';

/** Newest lines of an execution among which its answer is looked for; it is the last one on standard output. */
const LINES_MAX = 256;
/** A status that takes longer has failed, ms: it holds the target's queue up. */
const TIMEOUT_MS = 60_000;

export interface ScriptCommandsOptions {
  store: Pick<CommandStore, 'submit'>;
  drain: Pick<DrainQueue, 'add'>;
  history: Pick<ExecutionHistory, 'get'>;
  log: Pick<OutputLog, 'read'>;
  /** Of the term; undefined while this monitor does not lead. */
  fence: () => number | undefined;
  /** Arguments of the verb for a target. */
  argsOf: (target: string) => string[];
  monitor: string;
}

export class ScriptCommands implements StatusCommands {
  readonly #o: ScriptCommandsOptions;

  constructor(options: ScriptCommandsOptions) {
    this.#o = options;
  }

  async submit(target: string): Promise<string> {
    const { store, drain, fence, argsOf, monitor } = this.#o;
    const leaderFence = fence();
    if (leaderFence === undefined) throw new Error('This monitor does not lead, so it asks no scripts.');
    const answer = await store.submit({
      ...{ target, command: 'status', args: argsOf(target), subject: SYSTEM_SUBJECTS.monitor },
      ...{ address: '', gateway: monitor },
      ...{ idempotent: false, timeoutMs: TIMEOUT_MS, leaderFence, probe: true },
    });
    switch (answer.kind) {
      case 'accepted':
        // A runner finds it within seconds without this, too.
        await drain.add(target).catch(() => undefined);
        return answer.execution;
      case 'deposed':
        throw new DeposedError(leaderFence, String(answer.fence));
      case 'queue-full':
        throw new Error(`${target} has ${answer.length} commands waiting, as many as are allowed.`);
      case 'too-many-pending':
        throw new Error(`${answer.targets} targets have commands waiting, as many as are allowed.`);
      case 'conflict':
        throw new Error(`${target} refused a status without an id as a repetition of ${answer.execution}.`);
    }
  }

  async execution(_target: string, id: string): Promise<StatusExecution> {
    const record = await this.#o.history.get(id);
    if (record === undefined) return { state: 'gone' };
    if (record.state !== 'ended') return { state: record.state === 'running' ? 'running' : 'waiting' };
    const { outcome = 'lost', exit_code: exitCode = -1, ended_at: endedAt = record.accepted_at } = record;
    return { state: 'ended', outcome, exitCode, endedAtMs: Date.parse(endedAt) };
  }

  async lastLine(target: string, id: string): Promise<string | undefined> {
    const { history, log } = this.#o;
    const record = await history.get(id);
    if (record?.answer !== undefined) return record.answer;
    // A runner that does not know probes yet has written the output to the log.
    if (record?.first_offset === undefined || record.last_offset === undefined) return undefined;
    const after = Math.max(record.first_offset - 1, record.last_offset - LINES_MAX);
    const { entries } = await log.read(target, after, LINES_MAX);
    return lastLineOf(entries, id, 'o');
  }
}

/** The last line of an execution on a stream. */
export function lastLineOf(
  entries: readonly PlacedEntry[],
  execution: string,
  wanted: StreamLetter,
): string | undefined {
  let last: string | undefined;
  for (const { entry } of entries) {
    if (entry.kind !== 'lines' || entry.execution !== execution) continue;
    const lines = entry.body.toString('utf8').split('\n');
    let at = 0;
    for (const { stream, lines: count } of entry.runs) {
      at += count;
      if (stream === wanted) last = lines[at - 1];
    }
  }
  return last;
}
