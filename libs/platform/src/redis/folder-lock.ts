/**
 * One owner a folder, across processes. The lock is a file that names its owner; a dead owner's lock is taken over. A
 * process id alone would not do, since ids are used again: the owner also leaves the moment it started.
 */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { processStart } from './process-info.js';

interface Owner {
  readonly pid: number;
  readonly start: string | null;
}

/** Another living process owns the folder. */
export class FolderInUseError extends Error {
  override readonly name = 'FolderInUseError';
  readonly code = 'folder_in_use';
}

export interface FolderLock {
  /** Lets the next one in. */
  release(): void;
}

const FILE = 'owner.lock';
const ATTEMPTS_MAX = 10;

function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

function parseOwner(text: string): Owner | null {
  try {
    return JSON.parse(text) as Owner;
  } catch {
    return null; // Damaged by a full disk, say: whoever wrote it could not have started.
  }
}

function isAlive({ pid, start }: Owner): boolean {
  return start !== null && processStart(pid) === start;
}

/** Locks `folder`, which must exist. Throws FolderInUseError while another process (or this one) holds it. */
export function lockFolder(folder: string): FolderLock {
  const path = join(folder, FILE);
  const unique = `${path}.${process.pid}.${Math.random().toString(36).slice(2)}`;
  const mine = JSON.stringify({ pid: process.pid, start: processStart(process.pid) } satisfies Owner);
  writeFileSync(unique, mine, { mode: 0o600 });
  try {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      try {
        // A link appears with its content, so nobody ever reads half a lock.
        linkSync(unique, path);
        return { release: () => rmSync(path, { force: true }) };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      const held = readText(path);
      if (held === null) continue;
      const owner = parseOwner(held);
      if (owner && isAlive(owner)) {
        throw new FolderInUseError(
          `The folder ${folder} is in use by another carrierarr (process ${owner.pid}). ` +
            'Stop that one first, or choose another state folder.',
        );
      }
      removeStale(path, held);
    }
  } finally {
    rmSync(unique, { force: true });
  }
  throw new FolderInUseError(`The folder ${folder} could not be locked: others take and leave it all the time.`);
}

/** Moves a dead owner's lock away; puts it back when another process had replaced it just before. */
function removeStale(path: string, stale: string): void {
  const aside = `${path}.stale.${process.pid}`;
  try {
    renameSync(path, aside);
    if (readText(aside) !== stale) linkSync(aside, path);
  } catch (error) {
    if (!['ENOENT', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
  rmSync(aside, { force: true });
}
