/** JSON merge patches (RFC 7396): an object names what changes, null removes. */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/**
 * The value that `patch` makes of `value`. Both stay as they are. They must not be nested so deeply that recursion ends
 * the process: bodies are checked when they are read.
 */
export function mergePatch(value: Json | undefined, patch: Json): Json {
  if (!isObject(patch)) return patch;
  const merged = new Map(isObject(value) ? Object.entries(value) : []);
  for (const [key, part] of Object.entries(patch)) {
    if (part === null) merged.delete(key);
    else merged.set(key, mergePatch(merged.get(key), part));
  }
  // Unlike an assignment this makes `__proto__` a field like any other.
  return Object.fromEntries(merged);
}

function isObject(value: Json | undefined): value is { [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
