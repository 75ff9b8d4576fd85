/** The documents as a reader has them: pages, and the blocks of commands and files in them. */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { readRepository } from './deploy-tools.js';
import { WORKSPACE } from './programs.js';

/** Every page that somebody reads to do something. Paths within the repository. */
export const DOCUMENTS: readonly string[] = [
  ...[
    'README.md',
    'CONTRIBUTING.md',
    'deploy/agent/README.md',
    'deploy/iam/README.md',
    'deploy/helm/carrierarr/README.md',
  ],
  ...readdirSync(join(WORKSPACE, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name))
    .toSorted(),
];

/** Whether it is a page of docs/how-to. */
export const isGuide = (path: string): boolean => path.startsWith('docs/how-to/');

/** Pages that are about a cluster. `test/deploy/helm/guide.test.ts` executes what can be executed of them, and judges the rest. */
export const CLUSTER_GUIDES = [
  'docs/how-to/install-in-a-cluster.md',
  'docs/how-to/let-clients-in.md',
  'docs/how-to/let-agents-in.md',
] as const;

const SHELL = new Set(['sh', 'bash', 'shell', 'console']);

/** What a page shows between two lines of backticks. */
export interface Block {
  language: string;
  text: string;
  /** What its first line says that it needs, as in `# needs Docker`. */
  needs?: string;
  /** The file that it is, if its first lines say so: `# fleet.yaml`. */
  file?: string;
  /** What its commands show, now or soon: some line of their output matches each. From the `text` block below it. */
  shows: readonly RegExp[];
}

/** All blocks of a page, in order. */
export const blocksOf = (path: string): Block[] => blocksIn(readRepository(path));

/** All blocks of a text in Markdown, in order. */
export function blocksIn(markdown: string): Block[] {
  const found: Block[] = [];
  for (const [, language = '', text = ''] of markdown.matchAll(/^```(\w*)\n(.*?)^```$/gms)) {
    const before = found.at(-1);
    if (language === 'text' && before && isShell(before)) before.shows = patterns(text);
    const needs = /^# needs (.+)\n/.exec(text)?.[1];
    const file = /^(?:#!.*\n)?# ([\w-]+\.\w+)\n/.exec(text)?.[1];
    found.push({
      language,
      text,
      shows: [],
      ...(needs !== undefined && { needs }),
      ...(file !== undefined && { file }),
    });
  }
  return found;
}

/** Whether it is of commands, or of a script. */
export const isShell = ({ language }: Block): boolean => SHELL.has(language);

/** Whether it is of commands, for somebody who has what it says that it needs. */
export const isCommands = (block: Block): boolean => isShell(block) && block.file === undefined;

/** `…` stands for anything. */
function patterns(text: string): RegExp[] {
  const escaped = (part: string) => part.replace(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`);
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => new RegExp(line.split(/ *… */).map(escaped).join('.*')));
}

/** The commands of a block, each as long as it takes to be whole: a loop and a quoted line break are within one. */
export function commandsOf({ text }: Pick<Block, 'text'>): string[] {
  const commands: string[] = [];
  let begun = '';
  for (const line of text.split('\n')) {
    begun += `${line}\n`;
    if (line.endsWith('\\') || !isWhole(begun)) continue;
    if (!/^\s*(#.*)?\n$/.test(begun)) commands.push(begun.trimEnd());
    begun = '';
  }
  if (begun.trim() !== '') throw new Error(`Expected whole commands, got one that does not end:\n${begun}`);
  return commands;
}

/** Only a line that leaves something open needs bash to say so. */
function isWhole(text: string): boolean {
  if (!/['"(]|\b(do|then|case|in)\b|<</.test(text)) return true;
  return spawnSync('bash', ['-n'], { input: text, stdio: ['pipe', 'ignore', 'ignore'] }).status === 0;
}
