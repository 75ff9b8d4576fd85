/**
 * Puts together what runs: `node assemble.mjs COMPILED TARGET`, in the folder with the packages. Of those there are only the ones that
 * are not in the files of the programs. The layout is that of the repository.
 */
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { EXTERNAL } from '../../apps/cli/external.mjs';

const [compiled = '', target = ''] = process.argv.slice(2);
const copy = (from, path) => cpSync(join(from, path), join(target, path), { recursive: true, verbatimSymlinks: true });

mkdirSync(target, { recursive: true });
for (const path of ['LICENSE', 'package.json', 'scripts', 'examples', 'apps/cli/bin', 'apps/cli/package.json'])
  copy('.', path);
copy(compiled, 'apps/cli/dist');
// What gRPC reads as it is, found by the name of its package.
for (const path of ['package.json', 'proto']) copy('.', join('libs/protocol', path));
mkdirSync(join(target, 'node_modules/@carrierarr'), { recursive: true });
symlinkSync('../../libs/protocol', join(target, 'node_modules/@carrierarr/protocol'));
for (const folder of withDependencies(EXTERNAL)) copy('.', folder);

/** Folders of these packages and of all that they need, as far as they are installed: some are for other machines. */
function withDependencies(names) {
  const folders = new Set();
  const add = (name, importer) => {
    const folder = folderOf(name, importer);
    if (folder === undefined || folders.has(folder)) return;
    folders.add(folder);
    const { dependencies, optionalDependencies } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    for (const each of Object.keys({ ...dependencies, ...optionalDependencies })) add(each, folder);
  };
  for (const name of names) add(name, '.');
  return folders;
}

/** Where a package is that another one imports: beside it, or further up. */
function folderOf(name, importer) {
  for (let folder = importer; ; folder = dirname(folder)) {
    const found = join(folder, 'node_modules', name);
    if (existsSync(found)) return found;
    if (folder === '.') return undefined;
  }
}
