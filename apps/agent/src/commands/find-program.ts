/** Where a program is. */
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { delimiter, isAbsolute, join } from 'node:path';

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** The absolute path of a program that is named as in a shell, by `PATH`; undefined if it is not there. */
export async function findProgram(name: string, path = DEFAULT_PATH): Promise<string | undefined> {
  if (isAbsolute(name)) return name;
  // A relative path would depend on the folder that the agent happens to be in.
  if (name.includes('/')) return undefined;
  for (const folder of path.split(delimiter)) {
    if (!isAbsolute(folder)) continue;
    const candidate = join(folder, name);
    try {
      await access(candidate, constants.X_OK);
      if ((await stat(candidate)).isFile()) return candidate;
    } catch {
      // Not in this one.
    }
  }
  return undefined;
}
