/**
 * Numbers that agents say of themselves and their machines. They are bounded where they come in, so that one agent with a
 * broken clock or worse cannot make an answer about all nodes impossible. Pure; nothing here throws.
 */

/** Within bounds; what is no number is 0. */
function real(min: number, max: number): (value: number) => number {
  return (value) => (Number.isNaN(value) ? 0 : Math.min(max, Math.max(min, value)));
}
function whole(min: number, max: number): (value: number) => number {
  const within = real(min, max);
  // `+ 0`: JSON and Redis know no -0.
  return (value) => Math.trunc(within(value)) + 0;
}

export const INT32_MAX = 2 ** 31 - 1;

/** By what is counted. All but percentages become whole numbers: existing clients read integers. */
export const FIGURES = {
  seconds: whole(0, 1e9),
  megabytes: whole(0, 1e12),
  bytes: whole(0, Number.MAX_SAFE_INTEGER),
  /** GPUs, and numbers of them. */
  gpus: whole(0, 1_024),
  cores: whole(0, 65_536),
  celsius: whole(-1_000, 1_000),
  percent: real(0, 100),
};

/** End of the year 9999, the last that RFC 3339 can write, epoch ms. */
const LAST_MS = Date.UTC(10_000, 0, 1) - 1;

/** RFC 3339 for any number of epoch ms: those of no year from 1970 to 9999 become the nearest time that is. */
export function timeTextOf(ms: number): string {
  return new Date(shownMsOf(ms)).toISOString();
}

/** The whole ms that {@link timeTextOf} writes. */
export const shownMsOf = whole(0, LAST_MS);
