/** An execution's record between its Redis hash (flat text) and {@link Execution}. */
import type { Execution } from '@carrierarr/protocol';
import { EXECUTION_VERSION, executionSchema } from '@carrierarr/protocol';

const TIMES = new Set(['accepted_at', 'started_at', 'ended_at']);
const NUMBERS = new Set([
  ...['timeout_ms', 'fence', 'attempt', 'exit_code', 'first_offset', 'last_offset', 'lines', 'truncated_lines'],
]);

/** Thrown when the record of an execution is none that this program understands. */
export class UnreadableExecutionError extends Error {
  override name = 'UnreadableExecutionError';
}

/**
 * Reads a record from the flat list of fields and values that HGETALL replies inside a script. Throws
 * {@link UnreadableExecutionError}; a newer record is read as long as it has what ours have.
 */
export function parseExecution(flat: readonly string[]): Execution {
  const record: Record<string, unknown> = {};
  for (let i = 0; i + 1 < flat.length; i += 2) {
    const field = flat[i] as string;
    const text = flat[i + 1] as string;
    if (TIMES.has(field)) record[field] = parsedTime(text);
    else if (NUMBERS.has(field)) record[field] = Number(text);
    else if (field === 'args') record[field] = parsedArgs(text);
    else if (field === 'idempotent' || field === 'probe') record[field] = text === '1';
    else record[field] = text;
  }
  const parsed = executionSchema.safeParse(record);
  if (parsed.success) return parsed.data;
  const { id = '(without an id)', v = '1' } = record as { id?: string; v?: string };
  throw new UnreadableExecutionError(
    `Expected a record of version ${EXECUTION_VERSION} of execution ${id}, got one of version ${v} that does not fit: it was ` +
      `written by a newer carrierarr, or is damaged. Ask a gateway of the newer version.`,
    { cause: parsed.error },
  );
}

/** Null, which fits no schema, if it is no time in ms. */
export function parsedTime(text: string): string | null {
  const time = new Date(text === '' ? Number.NaN : Number(text));
  return Number.isNaN(time.getTime()) ? null : time.toISOString();
}

/** Undefined if it is no JSON, which fits no schema. */
function parsedArgs(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
