/** Where builds of earlier releases are kept, each under a name that says what went into it; those that nobody uses are taken away. */
import { createHash } from 'node:crypto';
import { readdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';

const UNUSED_MS_MAX = 7 * 24 * 3_600_000;
const PREFIX = 'release-';

export interface BuiltFrom {
  commit: string;
  /** Whose installed packages it links to, with the text of its lock file; undefined for a build that has packages of its own. */
  linked?: { workspace: string; lock: string } | undefined;
}

/** Name of the folder of a build. Links to packages that are installed otherwise now could lead nowhere. */
export function releaseName({ commit, linked }: BuiltFrom): string {
  const packages = linked === undefined ? 'own' : hash(JSON.stringify([linked.workspace, linked.lock]));
  return `${PREFIX}${commit.slice(0, 12)}-${packages}`;
}
const hash = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 12);

/** Says that a build is used, and takes away what was not for a week: of other commits, lock files and workspaces, or half made. */
export async function usedNow(cache: string, name: string, nowMs: number): Promise<void> {
  await utimes(join(cache, name), nowMs / 1_000, nowMs / 1_000);
  for (const other of await readdir(cache)) {
    if (!other.startsWith(PREFIX) || other === name) continue;
    const folder = join(cache, other);
    // Another run may take the same away.
    const usedMs = await stat(folder).then(
      ({ mtimeMs }) => mtimeMs,
      () => undefined,
    );
    if (usedMs !== undefined && nowMs - usedMs > UNUSED_MS_MAX) await rm(folder, { recursive: true, force: true });
  }
}
