/**
 * Sizes in bytes, written `64KiB` or as a plain number. Only powers of 1024 have names here: `64KB` means two different
 * things to two people, so it is refused.
 */

const UNIT_BYTES = { TiB: 1024 ** 4, GiB: 1024 ** 3, MiB: 1024 ** 2, KiB: 1024 } as const;
const PATTERN = /^(\d+(?:\.\d+)?)(B|KiB|MiB|GiB|TiB)?$/;

/** Bytes in `text`, or undefined when it is not a size or not a whole number of bytes. */
export function parseByteSize(text: string): number | undefined {
  const match = PATTERN.exec(text);
  if (!match) return undefined;
  const unit = match[2];
  const unitBytes = unit === undefined || unit === 'B' ? 1 : UNIT_BYTES[unit as keyof typeof UNIT_BYTES];
  const bytes = Number(match[1]) * unitBytes;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** `65536` as `64KiB`: the largest unit that divides it, else the plain number. */
export function printByteSize(bytes: number): string {
  for (const [unit, unitBytes] of Object.entries(UNIT_BYTES)) {
    if (bytes > 0 && bytes % unitBytes === 0) return `${bytes / unitBytes}${unit}`;
  }
  return String(bytes);
}
