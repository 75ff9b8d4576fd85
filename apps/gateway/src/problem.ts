/** What is wrong with a message, in words for who wrote the client. */
/** What we read of a zod error. */
interface Problems {
  issues: readonly { path: PropertyKey[]; message: string }[];
}

const SHOWN_MAX = 80;

/** A value as it was received, shortened, on one line. Never throws, however deep or odd the value is. */
export function shown(value: unknown): string {
  let text: string;
  try {
    text = JSON.stringify(value) ?? String(value);
  } catch {
    // JSON.parse reads deeper nesting than JSON.stringify can write.
    return 'a value that is nested too deeply to be shown';
  }
  return text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}… (${text.length} characters)` : text;
}

/** The first problem of a message: where, what was received, what is allowed. */
export function describeProblem(error: Problems, input: unknown): string {
  const issue = error.issues[0];
  if (issue === undefined) return 'The message is not valid.';
  let at: unknown = input;
  for (const key of issue.path) at = (at as Record<PropertyKey, unknown> | undefined)?.[key];
  const where = issue.path.length === 0 ? 'the message' : `\`${issue.path.join('.')}\``;
  return `${where}: ${issue.message} (received ${shown(at)}).`;
}
