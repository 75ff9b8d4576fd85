/** carrierarr's version: that of the workspace, or of this package where only it was installed. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

interface PackageFile {
  readonly name?: string;
  readonly version?: string;
}

function readPackage(folder: string): PackageFile | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as PackageFile;
  } catch {
    return undefined; // Most folders on the way up have none.
  }
}

/** For example `0.1.0`. Looks upwards from this file, so it works from `src` and `dist` alike. */
export function version(): string {
  let own: string | undefined;
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const found = readPackage(folder);
    if (found?.name === 'carrierarr-workspace' && found.version) return found.version;
    if (found?.name === '@carrierarr/platform') own ??= found.version;
    if (folder === dirname(folder)) return own ?? 'unknown';
  }
}
