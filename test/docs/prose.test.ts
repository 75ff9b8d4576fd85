/** What the documents name must be there: files, functions, flags, links. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const documents = [
  ...['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md'],
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
];

/** Paths of the repository in backticks, as in `apps/cli/src/main.ts`. */
const PATH = /`((?:apps|libs|scripts|test|docs|examples|\.ci)\/[\w./-]*\w)`/g;
const LINK = /\]\(([^)\s]+)\)/g;

describe.each(documents)('%s', (path) => {
  const text = read(path);

  it('names only files and folders that exist', () => {
    const named = [...text.matchAll(PATH)].map((match) => match[1] ?? '');
    expect(named.filter((name) => !existsSync(join(root, name)))).toEqual([]);
  });

  it('links to what exists', () => {
    const links = [...text.matchAll(LINK)].map((match) => match[1]?.split('#')[0] ?? '');
    const own = links.filter((link) => link !== '' && !/^[a-z]+:/.test(link));
    expect(own.filter((link) => !existsSync(join(root, dirname(path), link)))).toEqual([]);
  });

  it('calls carrierarr with commands and flags that it has', () => {
    const reference = flagsByProgram(read('docs/reference/configuration.md'));
    const wrong = commandLines(text).filter(({ program, flags }) => {
      const known = reference.get(program);
      return known === undefined || flags.some((flag) => !known.has(flag));
    });
    expect(wrong).toEqual([]);
  });
});

describe('the architecture', () => {
  const rows = [...read('docs/architecture.md').matchAll(/^\| `([\w./-]+\.ts)` +\| (`[^|]+`) +\|/gm)].map(
    (match) => [match[1] ?? '', [...(match[2] ?? '').matchAll(/`([^`]+)`/g)].map((name) => name[1] ?? '')] as const,
  );

  it('walks a command and a line through files', () => expect(rows.length).toBeGreaterThan(25));

  it.each(rows)('finds in %s what it names there: %s', (path, names) => {
    const source = read(path);
    const missing = names.filter((name) => !new RegExp(`(^|[^\\w#])${name}\\b`, 'm').test(source));
    expect(missing).toEqual([]);
  });
});

it('every error code and close code has a row in the reference', () => {
  // The text itself is generated and compared; this is for whoever edits the generator.
  expect(read('docs/reference/errors.md').match(/^\| `\w+` \|/gm)?.length).toBeGreaterThan(20);
});

/** `carrierarr VERB ...` in shell blocks, with the flags before any `--`. */
function commandLines(text: string): { line: string; program: string; flags: string[] }[] {
  const blocks = [...text.matchAll(/^```sh\n([\s\S]*?)^```/gm)].map((match) => match[1] ?? '');
  const lines = blocks.flatMap((block) => block.replaceAll('\\\n', ' ').split('\n'));
  return lines.flatMap((line) => {
    // Comments, and commands within, are not of this program.
    const match = /^carrierarr (\w+)(.*)$/.exec(line.replace(/\s+#.*$/, '').replaceAll(/\$\([^)]*\)/g, ''));
    if (!match) return [];
    const words = (match[2] ?? '').split(/ -- /)[0]!.split(/\s+/);
    const flags = words
      .filter((word) => /^--?[a-z]/.test(word))
      .map((word) => word.replace(/^--?/, '').replace(/=.*/, ''));
    return [{ line, program: `carrierarr ${match[1]}`, flags }];
  });
}

function flagsByProgram(reference: string): Map<string, Set<string>> {
  const sections = reference.split(/^## `/m).slice(1);
  return new Map(
    sections.map((section) => {
      const flags = [...section.matchAll(/^\| (`--[^|]*)\|/gm)].flatMap((row) =>
        [...(row[1] ?? '').matchAll(/`--([\w-]+)`/g)].map((flag) => flag[1] ?? ''),
      );
      return [section.slice(0, section.indexOf('`')), new Set([...flags, 'config', 'help'])];
    }),
  );
}
