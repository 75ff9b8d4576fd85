/** What the system knows about another process: enough not to take a reused process id for the old process. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

function run(command: string, args: readonly string[]): string | null {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return null; // No such process, or no such command.
  }
}

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null; // No such process.
  }
}

/** Text that differs between any two processes that had the same id; null when none runs (a zombie does not). */
export function processStart(pid: number): string | null {
  if (process.platform !== 'linux') {
    const [state, ...start] = run('ps', ['-o', 'stat=,lstart=', '-p', String(pid)])?.split(/\s+/) ?? [];
    return state === undefined || state.startsWith('Z') ? null : start.join(' ');
  }
  const stat = read(`/proc/${pid}/stat`);
  if (stat === null) return null;
  // Field 2 is the name in parentheses and may hold anything; field 3 is the state, 22 the start in ticks since boot.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (fields[0] === 'Z' || fields[0] === 'X') return null;
  return `${read('/proc/sys/kernel/random/boot_id')?.trim()}/${fields[19]}`;
}

/** The command line, words separated by spaces; null when no such process runs. */
export function commandLine(pid: number): string | null {
  if (process.platform !== 'linux') return run('ps', ['-o', 'command=', '-p', String(pid)]);
  return read(`/proc/${pid}/cmdline`)?.replaceAll('\0', ' ') ?? null;
}
