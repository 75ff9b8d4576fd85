/**
 * Puts together what runs: `node assemble.mjs COMPILED TARGET`, in the folder with the packages. The layout is that of the
 * repository, so that node_modules' links to apps and libs lead somewhere; of those there is what is compiled.
 */
import { cpSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const [compiled = '', target = ''] = process.argv.slice(2);
mkdirSync(target, { recursive: true });
for (const name of ['LICENSE', 'package.json', 'node_modules', 'scripts', 'examples']) {
  cpSync(name, join(target, name), { recursive: true, verbatimSymlinks: true });
}
for (const group of ['apps', 'libs']) {
  for (const name of readdirSync(group)) {
    const to = join(target, group, name);
    cpSync(join(group, name, 'package.json'), join(to, 'package.json'));
    cpSync(join(compiled, group, name, 'dist'), join(to, 'dist'), {
      recursive: true,
      filter: (path) => !/\.(d\.ts|map)$/.test(path),
    });
    // Packages of its own, where versions differ; programs; and what gRPC reads as it is.
    for (const part of ['node_modules', 'bin', 'proto']) {
      const from = join(group, name, part);
      if (existsSync(from)) cpSync(from, join(to, part), { recursive: true, verbatimSymlinks: true });
    }
  }
}
