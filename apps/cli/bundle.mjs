/**
 * Part of `npm run build`: `carrierarr` as few files in dist/, of what the compiler wrote to compiled/ and of all packages. From
 * some seven hundred files Node.js takes three times as long to start a program. What a program needs only now and then is in files
 * that are loaded then.
 */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { EXTERNAL } from './external.mjs';

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
const outdir = path('dist');
const LICENSES = 'THIRD-PARTY-LICENSES.txt';

const { outputFiles, metafile } = await build({
  entryPoints: [path('compiled/main.js')],
  outdir,
  bundle: true,
  splitting: true,
  platform: 'node',
  target: 'node20',
  format: 'esm',
  external: EXTERNAL,
  // What packages have that are no modules.
  banner: {
    js: [
      "import { createRequire as __createRequire } from 'node:module';",
      "import { fileURLToPath as __fileURLToPath } from 'node:url';",
      'const require = __createRequire(import.meta.url);',
      'const __filename = __fileURLToPath(import.meta.url);',
      "const __dirname = __fileURLToPath(new URL('.', import.meta.url));",
    ].join('\n'),
  },
  legalComments: 'none',
  logLevel: 'warning',
  write: false,
  metafile: true,
});
refuseLateImports(metafile.inputs);
await mkdir(outdir, { recursive: true });
for (const { path: file, contents } of outputFiles) await writeFile(file, contents);
await writeFile(join(outdir, LICENSES), await licensesOf(metafile.inputs));
const written = new Set([LICENSES, ...outputFiles.map(({ path: file }) => basename(file))]);
for (const name of await readdir(outdir)) if (!written.has(name)) await rm(join(outdir, name), { recursive: true });

/** A package that is no ES module has no names of its own in a file that is loaded late: what is imported by name would be undefined. */
function refuseLateImports(inputs) {
  for (const [file, { imports }] of Object.entries(inputs)) {
    if (file.includes('node_modules/')) continue;
    for (const { kind, path: imported, original } of imports) {
      if (kind !== 'dynamic-import' || !imported.includes('node_modules/')) continue;
      throw new Error(
        `Expected import() in ${file} to name a module of ours that exports what is used of ${original}.`,
      );
    }
  }
}

/** What the licences of packages ask to be handed on with them. */
async function licensesOf(inputs) {
  const folders = Object.keys(inputs).flatMap(
    (file) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1] ?? [],
  );
  const texts = [];
  for (const folder of [...new Set(folders)].toSorted()) {
    const { name, version, license } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
    const file = (await readdir(folder)).find((each) => /^(licen[cs]e|copying)(\.|-|$)/i.test(each));
    const text = file === undefined ? '' : await readFile(join(folder, file), 'utf8');
    texts.push(`${name} ${version} (${license})\n\n${text.trim()}\n`);
  }
  return texts.join(`\n${'-'.repeat(100)}\n\n`);
}
