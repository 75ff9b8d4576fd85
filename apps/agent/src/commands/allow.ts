/** What `exec` may run here: pure. */
export interface ExecRequest {
  argv: readonly string[];
  /** A line for a POSIX shell, used if there is no argv. */
  cmd: string | undefined;
}

export type ExecAnswer = { ok: true; argv: string[] } | { ok: false; problem: string };

/** Words that mean the same with and without a shell; a first one with `=` in it would set a variable. */
const PLAIN = /^[\w@%+:,./-]+(?: +[\w@%+=:,./-]+)*$/;

/**
 * The program and its arguments for a request. `allowed` has names (found in PATH), absolute paths, or `*`. A line that
 * is only plain words needs no shell; any other is run by `sh -c`, which must be allowed as such.
 */
export function execOf({ argv, cmd }: ExecRequest, allowed: readonly string[]): ExecAnswer {
  if (allowed.length === 0) {
    return {
      ok: false,
      problem: 'exec is off on this agent. Start it with --allow-exec PROGRAM,... to allow programs.',
    };
  }
  const isAllowed = (program: string) => allowed.includes('*') || allowed.includes(program);
  const words = argv.length > 0 ? [...argv] : wordsOf(cmd?.trim() ?? '', isAllowed('sh'));
  const [program] = words;
  if (program === undefined || program === '') {
    return { ok: false, problem: 'Expected a program to run (argv, or args.cmd), got none.' };
  }
  if (isAllowed(program)) return { ok: true, argv: words };
  return {
    ok: false,
    problem: `exec of ${JSON.stringify(program.slice(0, 200))} is not allowed on this agent. Allowed: ${allowed.join(', ')}.`,
  };
}

function wordsOf(cmd: string, mayUseShell: boolean): string[] {
  if (cmd === '') return [];
  if (!mayUseShell && PLAIN.test(cmd)) return cmd.split(/ +/);
  return ['sh', '-c', cmd];
}
