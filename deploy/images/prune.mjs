/**
 * Takes out of node_modules, in the current directory, what no program reads: uWebSockets.js' binaries for other machines
 * and other versions of Node.js (250 MB of them), types and source maps.
 */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const uws = 'node_modules/uWebSockets.js';
const needed = `uws_linux_${process.arch}_${process.versions.modules}.node`;
const files = readdirSync(uws);
if (!files.includes(needed)) {
  throw new Error(
    `uWebSockets.js has no ${needed}: it does not run on Node.js ${process.version} here. Use an LTS version.`,
  );
}
const kept = new Set([needed, 'uws.js', 'ESM_wrapper.mjs', 'package.json', 'LICENSE']);
for (const name of files) if (!kept.has(name)) rmSync(join(uws, name), { recursive: true });

const useless = /\.(d\.[cm]?ts|[cm]?ts|map|md|markdown|flow)$/i;
for (const entry of readdirSync('node_modules', { recursive: true, withFileTypes: true })) {
  const isLicence = /^licen[cs]e/i.test(entry.name);
  if (entry.isFile() && useless.test(entry.name) && !isLicence) rmSync(join(entry.parentPath, entry.name));
}
