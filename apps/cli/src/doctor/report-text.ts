/** Findings for people. */
import { visible } from '../terminal/visible.js';
import type { Report } from './examine.js';
import { LEVELS, type Level } from './finding.js';

const CHECK_WIDTH = 19;
const LEVEL_WIDTH = 4;

/** Two lines at most: what was seen, and what to do about it. */
export function reportText({ check, level, seen, advice }: Report): string {
  const first = `${level.padEnd(LEVEL_WIDTH)}  ${check.padEnd(CHECK_WIDTH)}  ${visible(seen)}\n`;
  if (advice === undefined) return first;
  return `${first}${' '.repeat(LEVEL_WIDTH + CHECK_WIDTH + 4)}-> ${visible(advice)}\n`;
}

/** Such as `12 ok, 1 warn, 0 fail, 3 skip`. */
export function summaryText(levels: readonly Level[]): string {
  return LEVELS.map((level) => `${levels.filter((each) => each === level).length} ${level}`).join(', ');
}
