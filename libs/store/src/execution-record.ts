/** An execution's record between its Redis hash (flat text) and {@link Execution}. */
import type { Execution } from '@carrierarr/protocol';
import { executionSchema } from '@carrierarr/protocol';

const TIMES = new Set(['accepted_at', 'started_at', 'ended_at']);
const NUMBERS = new Set([
  ...['timeout_ms', 'fence', 'attempt', 'exit_code', 'first_offset', 'last_offset', 'lines', 'truncated_lines'],
]);

/** Reads a record from the flat list of fields and values that HGETALL replies inside a script. */
export function parseExecution(flat: readonly string[]): Execution {
  const record: Record<string, unknown> = {};
  for (let i = 0; i + 1 < flat.length; i += 2) {
    const field = flat[i] as string;
    const text = flat[i + 1] as string;
    if (TIMES.has(field)) record[field] = new Date(Number(text)).toISOString();
    else if (NUMBERS.has(field)) record[field] = Number(text);
    else if (field === 'args') record[field] = JSON.parse(text);
    else if (field === 'idempotent' || field === 'probe') record[field] = text === '1';
    else record[field] = text;
  }
  return executionSchema.parse(record);
}
