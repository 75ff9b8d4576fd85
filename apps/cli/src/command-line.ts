/** Finds the verb, runs it, and turns its end into an exit code and a text for the user. */
import { ConfigError, version } from '@carrierarr/platform/light';
import { EXIT, Failure } from './exit.js';
import type { Host } from './host.js';
import { VERBS } from './verbs.js';

/** Runs `carrierarr ARGV`. Never throws: resolves to the exit code, after what there is to say is on standard error. */
export async function runCommandLine(argv: readonly string[], host: Host): Promise<number> {
  const [name, ...rest] = argv;
  switch (name) {
    case undefined:
      host.stderr.write(overview());
      return EXIT.usage;
    case '--help':
    case '-help':
    case '-h':
    case 'help':
      if (name === 'help' && rest[0] !== undefined) return runCommandLine([rest[0], '--help'], host);
      host.stdout.write(overview());
      return EXIT.done;
    case 'version':
    case '--version':
    case '-version':
      host.stdout.write(`carrierarr ${version()}\n`);
      return EXIT.done;
    default:
  }
  const entry = Object.hasOwn(VERBS, name) ? VERBS[name] : undefined;
  if (entry === undefined) {
    host.stderr.write(`carrierarr: ${unknownVerb(name)} \`carrierarr --help\` lists them all.\n`);
    return EXIT.usage;
  }
  const verb = await entry.load();
  try {
    return await verb.run(rest, host, entry.summary);
  } catch (error) {
    if (error instanceof ConfigError) {
      host.stderr.write(`${error.message}\n`);
      return verb.usageExitCode ?? EXIT.usage;
    }
    if (error instanceof Failure) {
      host.stderr.write(`carrierarr: ${error.message}\n`);
      return error.exitCode === EXIT.usage ? (verb.usageExitCode ?? EXIT.usage) : error.exitCode;
    }
    host.stderr.write(`carrierarr: a defect in \`carrierarr ${name}\`: ${String((error as Error)?.stack ?? error)}\n`);
    return EXIT.ours;
  }
}

const WORDS: Readonly<Record<string, string>> = {
  exec: 'run',
  log: 'logs',
  list: 'get',
  start: 'up',
  serve: 'up',
  stop: 'kill',
};

function unknownVerb(name: string): string {
  const meant = Object.hasOwn(WORDS, name) ? WORDS[name] : nearestVerb(name);
  const found = name.startsWith('-')
    ? `Expected a command first, got the flag \`${name}\`.`
    : `There is no command \`${name}\`.`;
  return meant === undefined ? found : `${found} Did you mean \`${meant}\`?`;
}

/** `^r ru un n$` of `run`. */
function letterPairs(word: string): Set<string> {
  const marked = `^${word}$`;
  return new Set(Array.from({ length: marked.length - 1 }, (_, at) => marked.slice(at, at + 2)));
}

/** The verb that shares most letter pairs with a typo; undefined if none is like it. */
function nearestVerb(name: string): string | undefined {
  const typed = letterPairs(name.toLowerCase());
  let best: string | undefined;
  let bestShare = 0.35;
  for (const verb of [...Object.keys(VERBS), 'version']) {
    const known = letterPairs(verb);
    const share = (2 * [...known].filter((pair) => typed.has(pair)).length) / (known.size + typed.size);
    if (share > bestShare) [best, bestShare] = [verb, share];
  }
  return best;
}

function overview(): string {
  const width = Math.max(...Object.keys(VERBS).map((name) => name.length), 'version'.length);
  const list = (group: 'Start' | 'Use') =>
    Object.entries(VERBS)
      .filter(([, entry]) => entry.group === group)
      .map(([name, { summary }]) => `  ${name.padEnd(width)}   ${summary}\n`)
      .join('');
  return `carrierarr runs commands on a fleet of workers and shows their output as it comes.

Usage: carrierarr COMMAND [flags] [arguments]

Start it:
${list('Start')}
Use it:
${list('Use')}  ${'version'.padEnd(width)}   Print the version.

\`carrierarr COMMAND --help\` lists the flags of a command. A gateway is found by --url (CARRIERARR_URL), by default
http://127.0.0.1:8090; a token by --token-file (CARRIERARR_TOKEN_FILE) or CARRIERARR_TOKEN.

Exit codes: 0 done; 2 wrong use (125 for \`run\`); 125 it failed; 126 the command cannot be run; 130 Ctrl-C; and with
\`run --wait\` that of the script.
`;
}
