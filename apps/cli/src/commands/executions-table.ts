/** Executions as a table, for `ps`, `get executions` and `describe`. */
import type { Execution } from '@carrierarr/protocol';
import { age, table } from '../terminal/table.js';
import type { Columns } from './resource-rows.js';

const ARGUMENTS_LENGTH_MAX = 40;

export const executionColumns: Columns<Execution> = {
  header: ['EXECUTION', 'TARGET', 'COMMAND', 'STATE', 'EXIT', 'AGE', 'TOOK', 'BY', 'RUNNER'],
  row: (execution, nowMs) => [
    execution.id,
    execution.target,
    commandText(execution),
    execution.outcome ?? execution.state,
    execution.exit_code === undefined || execution.exit_code < 0 ? '' : String(execution.exit_code),
    age(Date.parse(execution.accepted_at), nowMs),
    tookText(execution, nowMs),
    execution.subject,
    execution.runner ?? '',
  ],
};

export function executionsTable(executions: readonly Execution[], nowMs: number): string {
  return table(
    executionColumns.header,
    executions.map((execution) => executionColumns.row(execution, nowMs)),
  );
}

function commandText({ command, args }: Execution): string {
  const text = [command, ...args].join(' ');
  return text.length > ARGUMENTS_LENGTH_MAX ? `${text.slice(0, ARGUMENTS_LENGTH_MAX - 3)}...` : text;
}

function tookText({ started_at: startedAt, ended_at: endedAt }: Execution, nowMs: number): string {
  if (startedAt === undefined) return '';
  return age(Date.parse(startedAt), endedAt === undefined ? nowMs : Date.parse(endedAt));
}
