/**
 * Which words of `run` are ours and which the script's. Ours stand before TARGET or before COMMAND; what follows
 * COMMAND is the script's, but for `--wait`. Another flag of ours there would be taken for an argument without a word
 * (`run w1 train --timeout 5m`), so it is refused, and `--` says whose it is.
 */
import type { ConfigSchema } from '@carrierarr/platform';
import { UsageError } from '../exit.js';

interface RunArguments {
  readonly flags: readonly string[];
  /** TARGET, COMMAND and the script's arguments. */
  readonly positionals: readonly string[];
}

const FLAG = /^--?([^-=][^=]*)(=.*)?$/s;

export function splitRunArguments(argv: readonly string[], schema: ConfigSchema): RunArguments {
  const kinds = flagKinds(schema);
  const flags: string[] = [];
  const positionals: string[] = [];
  for (let index = 0; index < argv.length; index++) {
    const word = argv[index] ?? '';
    if (word === '--') {
      positionals.push(...argv.slice(index + 1));
      break;
    }
    const [, name, attached] = FLAG.exec(word) ?? [];
    if (positionals.length < 2) {
      if (name === undefined) {
        positionals.push(word);
        continue;
      }
      flags.push(word);
      const next = argv[index + 1];
      // A flag nobody knows is left to loadConfig to name.
      if (kinds.get(name) === 'value' && attached === undefined && next !== undefined && next !== '--') {
        flags.push(next);
        index++;
      }
      continue;
    }
    if (word === '--wait') flags.push(word);
    else if (name !== undefined && word.startsWith('--') && name !== 'help' && kinds.has(name)) throw ambiguous(word);
    else positionals.push(word);
  }
  return { flags, positionals };
}

function ambiguous(word: string): UsageError {
  const name = word.split('=')[0];
  return new UsageError(
    `\`${name}\` after the command could be carrierarr's or the script's. If it is carrierarr's, put it before the ` +
      `target (\`carrierarr run ${name} ... TARGET COMMAND\`); if the script's, put \`--\` before it.`,
  );
}

function flagKinds(schema: ConfigSchema): Map<string, 'boolean' | 'value'> {
  const kinds = new Map<string, 'boolean' | 'value'>([
    ['help', 'boolean'],
    ['h', 'boolean'],
    ['config', 'value'],
  ]);
  for (const [key, { aliases = [], default: value, secret }] of Object.entries(schema)) {
    const flag = key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    const kind = typeof value === 'boolean' ? 'boolean' : 'value';
    for (const name of [flag, ...aliases]) {
      kinds.set(name, kind);
      if (kind === 'boolean') kinds.set(`no-${name}`, 'boolean');
      if (secret) kinds.set(`${name}-file`, 'value');
    }
  }
  return kinds;
}
