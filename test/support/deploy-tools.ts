/**
 * helm and the schemas of Kubernetes for tests, where `scripts/setup.sh test` puts them. Elsewhere than on Linux on x64
 * helm is the one on the PATH. Where they cannot be had {@link helmMissing} says why, for `describe.skipIf`; in CI on Linux on
 * x64 a missing one is an error, never a skip.
 */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

const lock = fileURLToPath(new URL('deploy-tools/package-lock.json', import.meta.url));
const [checksum] = execFileSync('cksum', [lock], { encoding: 'utf8' }).split(' ');
const cache = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
const folder = join(cache, 'carrierarr', `deploy-tools-${checksum}`);

/** The program of this name that comes with the tools, else that on the PATH. */
function program(name: string): string | undefined {
  const onPath = (process.env['PATH'] ?? '').split(delimiter).map((entry) => join(entry, name));
  return [join(folder, name), ...onPath].find((path) => existsSync(path));
}
const helmPath = program('helm');

function whyMissing(): string | undefined {
  if (!existsSync(join(folder, 'node_modules'))) return 'needs its tools: run `bash scripts/setup.sh test`';
  return helmPath === undefined ? 'needs helm on the PATH' : undefined;
}

/** Why there is no helm, or no schemas, here; undefined if there are. */
export const helmMissing: string | undefined = whyMissing();
/** Whether there is a kubectl; it asks no cluster here. */
export const hasKubectl = program('kubectl') !== undefined;

if (
  helmMissing !== undefined &&
  process.env['CI'] !== undefined &&
  `${process.platform} ${process.arch}` === 'linux x64'
) {
  throw new Error(`This test ${helmMissing}`);
}
if (helmMissing !== undefined) console.warn(`Skipped: a test of the Helm chart ${helmMissing}.`);

/** Folder of the tools, for the PATH of what is to find them. */
export const toolsPath = folder;

const run = promisify(execFile);
/** No repositories, plugins or cluster of whoever runs the test. */
const OPTIONS = {
  env: { PATH: process.env['PATH'], HOME: '/nonexistent', KUBECONFIG: '/nonexistent' },
  maxBuffer: 64 * 1024 * 1024,
};

/** What helm printed; rejects with an Error whose `stderr` says why it refused. */
export async function helm(...args: string[]): Promise<string> {
  return (await run(helmPath ?? 'helm', args, OPTIONS)).stdout;
}

/** What kubectl printed, without any cluster. */
export async function kubectl(...args: string[]): Promise<string> {
  return (await run(program('kubectl') ?? 'kubectl', args, OPTIONS)).stdout;
}

/** A module of the packages of schemas. */
export function importSchema(path: string): Promise<unknown> {
  return import(/* @vite-ignore */ pathToFileURL(join(folder, 'node_modules', path)).href);
}

/** Text of a file of this repository. */
export function readRepository(path: string): string {
  return readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
}
