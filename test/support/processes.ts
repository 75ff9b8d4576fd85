/** Whether processes of scripts live. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import type { JournalEvent } from './history.js';

/** True if the process exists and is more than an entry that waits to be reaped. */
export function isRunning(pid: number): boolean {
  if (existsSync('/proc/self/stat')) {
    try {
      return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
    } catch {
      return false;
    }
  }
  const state = spawnSync('ps', ['-o', 'stat=', '-p', `${pid}`], { encoding: 'utf8' }).stdout.trim();
  return state !== '' && !state.startsWith('Z');
}

/** The processes of an execution that its script has testified. */
export function processesOf(journal: readonly JournalEvent[], execution: string): number[] {
  return journal.flatMap((event) =>
    event.execution === execution && (event.kind === 'start' || event.kind === 'child') ? [event.pid] : [],
  );
}

/** Resident memory of a process, bytes; undefined where there is no /proc. */
export function residentBytes(pid: number): number | undefined {
  try {
    const kib = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return kib === undefined ? undefined : Number(kib) * 1024;
  } catch {
    return undefined;
  }
}
