/**
 * Which target a machine is: by its tag `carrierarr:target`, else by its tag `Name`, else by its id. A tag whose value
 * cannot be a target (control characters, braces, a star, too long) is passed over, and the record says so.
 */
import { targetSchema, type WorkerRecord } from '@carrierarr/protocol';

/** The tag that names a target in so many words. */
export const TARGET_TAG = 'carrierarr:target';
/** Most characters of a refused tag that a note repeats. */
const QUOTE_LENGTH_MAX = 60;

export interface TargetMapping {
  readonly target: string;
  readonly mapped_by: WorkerRecord['mapped_by'];
  /** Tags that were passed over, and why. */
  readonly target_note?: string;
}

export function mapTarget(id: string, tags: Readonly<Record<string, string>>): TargetMapping {
  const notes: string[] = [];
  const noted = () => (notes.length === 0 ? {} : { target_note: notes.join(' ') });
  for (const tag of [TARGET_TAG, 'Name'] as const) {
    const value = tags[tag];
    if (value === undefined || value === '') continue;
    const parsed = targetSchema.safeParse(value);
    if (parsed.success) return { target: parsed.data, mapped_by: `tag:${tag}`, ...noted() };
    const why = parsed.error.issues[0]?.message ?? 'it cannot be a target';
    notes.push(`Tag ${tag} is ${quoted(value)}, which is passed over: ${why}.`);
  }
  return { target: id, mapped_by: 'id', ...noted() };
}

/** As JSON has it, which also makes control characters visible. */
function quoted(value: string): string {
  return JSON.stringify(value.length > QUOTE_LENGTH_MAX ? `${value.slice(0, QUOTE_LENGTH_MAX)}…` : value);
}
