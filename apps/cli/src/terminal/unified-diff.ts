/** Two texts to a unified diff, as `diff -u` prints it. */
import { createTwoFilesPatch, FILE_HEADERS_ONLY } from 'diff';

const COLOURS = { '-': '\x1b[31m', '+': '\x1b[32m', '@': '\x1b[36m' } as const;
const PLAIN = '\x1b[0m';

/** Empty if both are the same; ends with a newline otherwise. Both texts end with one, or are empty. */
export function unifiedDiff(before: string, after: string, names: readonly [before: string, after: string]): string {
  if (before === after) return '';
  const options = { context: 3, headerOptions: FILE_HEADERS_ONLY };
  return createTwoFilesPatch(names[0], names[1], before, after, undefined, undefined, options);
}

/** Colours by what each line begins with. */
export function coloured(diff: string): string {
  return diff
    .split('\n')
    .map((line) => {
      const mark = line[0] as keyof typeof COLOURS | undefined;
      const colour = mark === undefined ? undefined : COLOURS[mark];
      return colour === undefined ? line : `${colour}${line}${PLAIN}`;
    })
    .join('\n');
}
