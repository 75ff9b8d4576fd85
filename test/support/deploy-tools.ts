/**
 * helm and the schemas of Kubernetes for tests, where `scripts/setup.sh test` puts them. Elsewhere than on Linux on x64
 * helm is the one on the PATH. Where they cannot be had {@link helmMissing} says why, for `describe.skipIf`; in CI on Linux on
 * x64 a missing one is an error, never a skip.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
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
/** Why helm cannot say what an installation would print; undefined if it can. Before version 4 it asks a cluster for that. */
export const notesMissing: string | undefined =
  helmMissing ?? (/^v[0-3]\./.test(helmVersion()) ? 'needs helm 4 or newer' : undefined);

function helmVersion(): string {
  return execFileSync(helmPath ?? 'helm', ['version', '--template', '{{.Version}}'], { encoding: 'utf8' });
}

/** Whether there is a kubectl. */
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

/** Why there is no cluster to ask; undefined if there is one. */
export const clusterMissing: string | undefined =
  helmMissing ??
  (process.env['KUBECONFIG'] && hasKubectl ? undefined : 'needs kubectl, and KUBECONFIG that leads to one');

/** Whether that cluster is there for tests, which may make and take away what they like in namespaces of their own. */
export const isClusterForTests: boolean = process.env['CLUSTER_FOR_TESTS'] === '1';

/**
 * Where nodes of that cluster have images of this checkout from, tagged as the chart's version: the host and path of a registry, or
 * `loaded` if they have been loaded onto the nodes. Undefined if it runs none.
 */
export const clusterImages: string | undefined = process.env['CLUSTER_IMAGES'] || undefined;

/** The tag under which they have the images of the previous release beside those; undefined if they have none. */
export const previousTag: string | undefined = process.env['CLUSTER_PREVIOUS_TAG'] || undefined;

/** A storage class of that cluster whose volumes pods on several of its nodes may share; undefined if it has none, or but one node. */
export const sharedClass: string | undefined = process.env['CLUSTER_SHARED_CLASS'] || undefined;

/** Why no release can be run there; undefined if one can. */
export const podsMissing: string | undefined =
  clusterMissing ??
  (isClusterForTests && clusterImages ? undefined : 'needs CLUSTER_FOR_TESTS=1, and CLUSTER_IMAGES to run');

const run = promisify(execFile);
interface Printed {
  stdout: string;
  stderr: string;
}

/** Without repositories, plugins or the cluster of whoever runs the test. */
function runTool(
  file: string,
  args: readonly string[],
  own: Record<string, string | undefined> = {},
): Promise<Printed> {
  const env = { PATH: process.env['PATH'], HOME: '/nonexistent', KUBECONFIG: '/nonexistent', ...own };
  return run(file, args, { env, maxBuffer: 64 * 1024 * 1024 });
}

/** What helm printed; rejects with an Error whose `stderr` says why it refused. */
export async function helm(...args: string[]): Promise<string> {
  return (await runTool(helmPath ?? 'helm', args)).stdout;
}

/** What kubectl printed, without any cluster. */
export async function kubectl(...args: string[]): Promise<string> {
  return (await runTool(program('kubectl') ?? 'kubectl', args)).stdout;
}

/** Who asks a cluster keeps what it serves in a cache at home. */
const asking = () => ({
  KUBECONFIG: process.env['KUBECONFIG'],
  HOME: join(tmpdir(), `carrierarr-kube-${process.pid}`),
});

/** What they printed, and what they warned of, where they may ask the cluster to which KUBECONFIG leads. */
export const inCluster = {
  helm: (...args: string[]) => runTool(helmPath ?? 'helm', args, asking()),
  kubectl: (...args: string[]) => runTool(program('kubectl') ?? 'kubectl', args, asking()),
  /** Takes away what they kept. */
  forget: () => rm(asking().HOME, { recursive: true, force: true }),
};

/** A kubectl that goes on until it is ended, asking that cluster. */
export function startKubectl(...args: string[]): ChildProcess {
  const env = { PATH: process.env['PATH'], ...asking() };
  return spawn(program('kubectl') ?? 'kubectl', args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
}

/** A module of the packages of schemas. */
export function importSchema(path: string): Promise<unknown> {
  return import(/* @vite-ignore */ pathToFileURL(join(folder, 'node_modules', path)).href);
}

/** Text of a file of this repository. */
export function readRepository(path: string): string {
  return readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
}
