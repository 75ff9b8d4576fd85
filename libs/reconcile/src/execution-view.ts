/**
 * What became of a command that was given: first by the Worker's own status, whose word is final, then by the record of
 * its execution. Finding that record is up to the caller: by the id in the status, else by the command's token.
 */
import type { Execution, GivenCommand, Outcome } from '@carrierarr/protocol';
import type { ExecutionView } from './worker-view.js';

/** The end that the status has recorded; undefined if it has none, and the execution must be looked up. */
export function recordedView(command: GivenCommand): ExecutionView | undefined {
  const { execution: id = '', outcome, exitCode = -1, endedAt } = command;
  if (outcome === undefined) return undefined;
  // A plan wrote it there, out of an execution.
  return { state: 'ended', id, outcome: outcome as Outcome, exitCode, endedAtMs: Date.parse(endedAt ?? '') || 0 };
}

/** `lostAtMs`: when a command ended whose record is gone, as after a loss of data in Redis. */
export function viewOfRecord(
  id: string,
  record: Pick<Execution, 'state' | 'outcome' | 'exit_code' | 'ended_at'> | undefined,
  lostAtMs: number,
): ExecutionView {
  if (record === undefined) return { state: 'ended', id, outcome: 'lost', exitCode: -1, endedAtMs: lostAtMs };
  if (record.state !== 'ended') return { state: record.state, id };
  const { outcome = 'lost', exit_code: exitCode = -1, ended_at: endedAt } = record;
  return { state: 'ended', id, outcome, exitCode, endedAtMs: endedAt === undefined ? lostAtMs : Date.parse(endedAt) };
}
