import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from '../../support/temporary-folder.js';

/** Path of a new file with this text, gone after the running test. */
export function onDisk(text: string): string {
  const path = join(temporaryFolder('chart-'), 'given.yaml');
  writeFileSync(path, text);
  return path;
}
