/**
 * Commands that an agent carries out itself, in the two forms they have: a verb with a list of arguments, as all
 * commands here (`exec uname -a`), and a type with named arguments, as agents and `POST /api/v1/command` have them
 * (`EXEC`, `cmd`).
 *
 * Of a verb's arguments the first is the one it is about; further ones are `name=value`. `exec` alone has argv: a
 * program and its arguments, for which no shell is needed.
 */

interface AgentVerb {
  /** Name of the CommandType without its prefix. */
  type: string;
  /** Name of the argument it is about. */
  about?: string;
  /** It means nothing without that. */
  isNeeded?: boolean;
}

export const AGENT_VERBS = {
  exec: { type: 'EXEC', about: 'cmd', isNeeded: true },
  drain: { type: 'DRAIN' },
  shutdown: { type: 'SHUTDOWN' },
  reboot: { type: 'REBOOT' },
  'pull-model': { type: 'PULL_MODEL', about: 'model', isNeeded: true },
  'unload-model': { type: 'UNLOAD_MODEL', about: 'model', isNeeded: true },
  'restart-service': { type: 'RESTART_SERVICE', about: 'service', isNeeded: true },
  'update-config': { type: 'UPDATE_CONFIG' },
} as const satisfies Record<string, AgentVerb>;
export type AgentVerbName = keyof typeof AGENT_VERBS;

/** A command as an agent gets it. */
export interface AgentCommand {
  /** Such as `PULL_MODEL`. */
  type: string;
  args: Record<string, string>;
  /** Of `exec`: program and arguments. `args.cmd` is the same as a line for a POSIX shell. */
  argv?: string[];
}

export type AgentCommandAnswer = { ok: true; command: AgentCommand } | { ok: false; problem: string };

export function isAgentVerb(verb: string): verb is AgentVerbName {
  return Object.hasOwn(AGENT_VERBS, verb);
}

/** The verb of a type's name without its prefix, such as `PULL_MODEL`. */
export function verbOfType(type: string): AgentVerbName | undefined {
  return (Object.keys(AGENT_VERBS) as AgentVerbName[]).find((verb) => AGENT_VERBS[verb].type === type);
}

/** What an agent is to be sent for a verb. The problem says what is expected. */
export function agentCommandOf(verb: AgentVerbName, words: readonly string[]): AgentCommandAnswer {
  const { type, about, isNeeded = false }: AgentVerb = AGENT_VERBS[verb];
  if (verb === 'exec') {
    const argv = words[0] === '--' ? words.slice(1) : [...words];
    if (argv.length === 0 || argv[0] === '') return missing(verb, 'a program and its arguments, such as `uname -a`');
    return { ok: true, command: { type, argv, args: { cmd: shellLine(argv) } } };
  }
  const [first, ...others] = about === undefined ? [undefined, ...words] : words;
  if (isNeeded && (first === undefined || first === '')) return missing(verb, `the name of a ${about}`);
  const args: Record<string, string> = {};
  if (about !== undefined && first !== undefined) args[about] = first;
  for (const word of others) {
    const at = word?.indexOf('=') ?? -1;
    if (word === undefined || at <= 0) {
      return {
        ok: false,
        problem: `Expected further arguments of ${JSON.stringify(verb)} as name=value, got ${JSON.stringify(word)}.`,
      };
    }
    args[word.slice(0, at)] = word.slice(at + 1);
  }
  return { ok: true, command: { type, args } };
}

/** The arguments of a verb for what came as named ones; the reverse of {@link agentCommandOf}. */
export function wordsOf(verb: AgentVerbName, args: Readonly<Record<string, string>>): string[] {
  const { about }: AgentVerb = AGENT_VERBS[verb];
  const first = about === undefined ? undefined : args[about];
  if (verb === 'exec') return first === undefined ? [] : [SHELL, '-c', first];
  const others = Object.entries(args).flatMap(([name, value]) => (name === about ? [] : [`${name}=${value}`]));
  return first === undefined ? others : [first, ...others];
}

const SHELL = 'sh';

function missing(verb: string, what: string): AgentCommandAnswer {
  return { ok: false, problem: `Expected ${what} after ${JSON.stringify(verb)}, got nothing.` };
}

/** One line for a POSIX shell that runs exactly this argv. What came as such a line goes back to what it was. */
function shellLine(argv: readonly string[]): string {
  if (argv.length === 3 && argv[0] === SHELL && argv[1] === '-c') return argv[2] as string;
  return argv
    .map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`))
    .join(' ');
}
