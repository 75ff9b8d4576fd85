/**
 * `npm run build:single -w apps/agent`: the agent as one file, dist/carrierarr-agent.mjs, for machines with nothing but
 * Node 20 or newer (and bash, as all that runs programs here). Bundles the built packages, so build those first.
 */
import { chmod, readFile, stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
const { version } = JSON.parse(await readFile(path('../../package.json'), 'utf8'));
const outfile = process.argv[2] ?? path('dist/carrierarr-agent.mjs');

/** There is no package.json beside the file to read the version from. */
const fixedVersion = {
  name: 'fixed-version',
  setup(builder) {
    builder.onLoad({ filter: /platform[\\/]dist[\\/]version\.js$/ }, () => ({
      contents: `export const version = () => ${JSON.stringify(version)};`,
    }));
  },
};

/** Of our own packages only what is used: what they export beside it would bring Redis along. */
const ownAreClean = {
  name: 'own-packages-have-no-side-effects',
  setup(builder) {
    builder.onResolve({ filter: /^@carrierarr\// }, async (args) => {
      if (args.pluginData === 'resolved') return undefined;
      const { kind, resolveDir, importer } = args;
      const found = await builder.resolve(args.path, { kind, resolveDir, importer, pluginData: 'resolved' });
      return { ...found, sideEffects: false };
    });
    builder.onResolve({ filter: /^\.\.?\// }, async (args) => {
      if (
        args.pluginData === 'resolved' ||
        args.importer.includes('node_modules') ||
        !/[\\/](libs|apps)[\\/][^\\/]+[\\/]dist[\\/]/.test(args.importer)
      )
        return undefined;
      const { kind, resolveDir, importer } = args;
      const found = await builder.resolve(args.path, { kind, resolveDir, importer, pluginData: 'resolved' });
      return { ...found, sideEffects: false };
    });
  },
};

await build({
  entryPoints: [path('dist/main.js')],
  outfile,
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'esm',
  // Packages that are not modules call require().
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
  },
  legalComments: 'external',
  minifySyntax: true,
  minifyWhitespace: true,
  logLevel: 'warning',
  plugins: [fixedVersion, ownAreClean],
});
await chmod(outfile, 0o755);
process.stdout.write(`${outfile}: ${Math.round((await stat(outfile)).size / 1024)} KiB\n`);
