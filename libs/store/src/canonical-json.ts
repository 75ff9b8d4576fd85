/**
 * JSON text that is equal exactly when the values are: keys sorted at every depth, undefined left out. So Redis can
 * tell with a comparison of text that a write would change nothing.
 */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) => {
    if (typeof part !== 'object' || part === null || Array.isArray(part)) return part;
    return Object.fromEntries(Object.entries(part).toSorted(([a], [b]) => (a < b ? -1 : 1)));
  });
}
