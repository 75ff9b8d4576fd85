/**
 * Durations as Go writes them (`30s`, `1h30m`, `500ms`), because existing installations use them in their start flags.
 * A bare number is refused: nobody can tell seconds from milliseconds. Inside the programs a duration is a whole number
 * of milliseconds in a variable that ends in `Ms`.
 */

const UNIT_MS = { h: 3_600_000, m: 60_000, s: 1_000, ms: 1 } as const;
const WHOLE = /^(?:\d+(?:\.\d+)?(?:ms|h|m|s))+$/;
const PART = /(\d+(?:\.\d+)?)(ms|h|m|s)/g;

/** Milliseconds in `text`, or undefined when it is not a duration. `0` needs no unit; negative ones do not exist. */
export function parseDuration(text: string): number | undefined {
  if (text === '0') return 0;
  if (!WHOLE.test(text)) return undefined;
  let totalMs = 0;
  for (const [, amount, unit] of text.matchAll(PART)) totalMs += Number(amount) * UNIT_MS[unit as keyof typeof UNIT_MS];
  const roundedMs = Math.round(totalMs);
  // Half a millisecond would silently become none or one.
  return Number.isSafeInteger(roundedMs) && Math.abs(roundedMs - totalMs) < 1e-6 ? roundedMs : undefined;
}

/** The shortest text that `parseDuration` reads back as `ms`. */
export function printDuration(ms: number): string {
  if (ms === 0) return '0s';
  let restMs = ms;
  let text = '';
  for (const [unit, unitMs] of Object.entries(UNIT_MS)) {
    const count = Math.floor(restMs / unitMs);
    if (count > 0) text += `${count}${unit}`;
    restMs -= count * unitMs;
  }
  return text;
}
