/**
 * Reads a command line the way Go's flag package does, because existing installations start with `-addr :8090`: one or
 * two dashes, `--flag value` or `--flag=value`, booleans without a value. Beyond Go: flags may follow positional
 * arguments, `--no-flag` turns a boolean off, a repeated flag adds to a list, `--` ends the flags.
 *
 * It only sorts; the values stay text. Text after an unknown flag is never quoted: it may be a mistyped flag's secret.
 */
import type { ConfigProblem } from './config-error.js';
import { suggestion } from './nearest.js';
import type { ResolvedKey } from './schema.js';

export interface ParsedFlags {
  /** Texts given for a key, in order, and the flag as it was typed. */
  readonly values: ReadonlyMap<string, { readonly flag: string; readonly texts: readonly string[] }>;
  /** Path given as `--<flag>-file` for a secret. */
  readonly secretFiles: ReadonlyMap<string, { readonly flag: string; readonly path: string }>;
  readonly configFile: string | null;
  readonly isHelp: boolean;
  readonly positionals: readonly string[];
  readonly problems: readonly ConfigProblem[];
}

type Meaning =
  | { readonly kind: 'value' | 'boolean' | 'negated' | 'secret-file'; readonly key: ResolvedKey }
  | { readonly kind: 'config' }
  | { readonly kind: 'help' };

const FLAG = /^(--?)([^-=][^=]*)(?:=(.*))?$/s;

function meanings(keys: readonly ResolvedKey[]): Map<string, Meaning> {
  const table = new Map<string, Meaning>([
    ['config', { kind: 'config' }],
    ['help', { kind: 'help' }],
    ['h', { kind: 'help' }],
  ]);
  const add = (name: string, meaning: Meaning) => {
    if (table.has(name)) throw new Error(`Two keys of the schema use the flag --${name}.`);
    table.set(name, meaning);
  };
  for (const key of keys) {
    for (const name of key.flag === null ? [] : [key.flag, ...key.aliases]) {
      const isBoolean = key.definition.check(true);
      add(name, { kind: isBoolean ? 'boolean' : 'value', key });
      if (isBoolean) add(`no-${name}`, { kind: 'negated', key });
      if (key.secret) add(`${name}-file`, { kind: 'secret-file', key });
    }
  }
  return table;
}

export function parseFlags(argv: readonly string[], keys: readonly ResolvedKey[]): ParsedFlags {
  const table = meanings(keys);
  const values = new Map<string, { flag: string; texts: string[] }>();
  const secretFiles = new Map<string, { flag: string; path: string }>();
  const positionals: string[] = [];
  const problems: ConfigProblem[] = [];
  let configFile: string | null = null;
  let isHelp = false;

  const addValue = (key: string, flag: string, text: string) => {
    const seen = values.get(key);
    if (seen) seen.texts.push(text);
    else values.set(key, { flag, texts: [text] });
  };
  const isKnownFlag = (token: string) => token === '--' || table.has(FLAG.exec(token)?.[2] ?? '');

  for (let index = 0; index < argv.length; index++) {
    const token = argv[index] ?? '';
    if (token === '--') {
      positionals.push(...argv.slice(index + 1));
      break;
    }
    if (!token.startsWith('-') || token === '-') {
      positionals.push(token);
      continue;
    }
    const [, dashes = '', name = '', attached] = FLAG.exec(token) ?? [];
    const flag = `${dashes}${name}`;
    const next = argv[index + 1];
    const meaning = table.get(name);

    if (!meaning) {
      const shown = flag === '' ? token.split('=')[0] : flag;
      problems.push({
        key: null,
        message: `Unknown flag \`${shown}\`.${suggestion(name, table.keys(), '--') || ' Remove it.'}`,
      });
      if (attached === undefined && next !== undefined && !next.startsWith('-')) index++;
      continue;
    }
    if (meaning.kind === 'help') {
      isHelp = true;
      continue;
    }
    if (meaning.kind === 'boolean') {
      addValue(meaning.key.key, flag, attached ?? 'true');
      continue;
    }
    if (meaning.kind === 'negated') {
      if (attached === undefined) addValue(meaning.key.key, flag, 'false');
      else
        problems.push({
          key: meaning.key.key,
          message: `\`${flag}\` takes no value; leave out everything from \`=\`.`,
        });
      continue;
    }

    const takesNext = attached === undefined;
    if (takesNext && (next === undefined || isKnownFlag(next))) {
      const key = meaning.kind === 'config' ? null : meaning.key.key;
      const wanted = meaning.kind === 'value' ? meaning.key.allowed : 'the path of a file';
      const follower = next === undefined ? 'nothing' : `the flag \`${next.split('=')[0]}\``;
      problems.push({ key, message: `\`${flag}\` needs a value: ${wanted}. It was followed by ${follower}.` });
      continue;
    }
    const text = attached ?? next ?? '';
    if (takesNext) index++;
    if (meaning.kind === 'config') configFile = text;
    else if (meaning.kind === 'secret-file') secretFiles.set(meaning.key.key, { flag, path: text });
    else addValue(meaning.key.key, flag, text);
  }
  return { values, secretFiles, configFile, isHelp, positionals, problems };
}
