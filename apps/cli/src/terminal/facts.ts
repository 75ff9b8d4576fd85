/** Names with their values, in sections, for people. Pure. */
import { visible } from './visible.js';

const INDENT = '  ';

export type Facts = readonly (readonly [name: string, value: string | undefined])[];

/** Names and values one below the other; those without a value are left out. */
export function facts(all: Facts): string {
  const known = all.filter((each): each is readonly [string, string] => each[1] !== undefined);
  const width = Math.max(0, ...known.map(([name]) => name.length));
  return known.map(([name, value]) => `${`${name}:`.padEnd(width + 1)}  ${visible(value)}\n`).join('');
}

export function section(title: string, text: string): string {
  return `\n${title}:\n${text.replace(/^(?=.)/gm, INDENT)}`;
}
