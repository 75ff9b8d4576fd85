/**
 * The programs of the release before this one, built to run beside those of today. It is the newest `v*` tag below HEAD; while there is none, the
 * commit that `test/fixtures/previous-release` names. Where it cannot be had {@link previousReleaseMissing} says why, for `test.skipIf`: a shallow
 * clone and an unpacked archive know no history.
 *
 * It runs on the packages that are installed here if its lock file has all that its programs need in the versions of ours, which saves a minute; else on
 * its own. What was built is kept, so the next run finds it (release-cache.ts).
 */
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, symlink } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';
import { type Release, WORKSPACE } from './programs.js';
import { releaseName, usedNow } from './release-cache.js';

const run = promisify(execFile);
const NAMED = 'test/fixtures/previous-release';
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

/** What git printed, without the last line break; undefined if it failed. */
export function git(...args: string[]): string | undefined {
  const { status, stdout } = spawnSync('git', args, { cwd: WORKSPACE, encoding: 'utf8', maxBuffer: OUTPUT_BYTES_MAX });
  return status === 0 ? stdout.trimEnd() : undefined;
}

/** Of `package-lock.json`: packages by where they are installed. */
type Packages = Record<
  string,
  { version?: string; resolved?: string; link?: boolean; dev?: boolean; optional?: boolean }
>;
const packagesIn = (lock: string): Packages => (JSON.parse(lock) as { packages: Packages }).packages;

const ourLock = () => readFileSync(join(WORKSPACE, 'package-lock.json'), 'utf8');

interface Found {
  name: string;
  commit: string;
  packages: Packages;
  /** Its programs need no other packages than are installed here. */
  isShared: boolean;
}

/** Name and id of the commit of the previous release; while there is no tag, of that which this file names. Else why there is none here. */
export function previousCommit(named: string): { name: string; commit: string } | string {
  const tag = git('tag', '--list', 'v[0-9]*', '--merged', 'HEAD', '--no-contains', 'HEAD', '--sort=-v:refname');
  const name = tag?.split('\n')[0] || readFileSync(join(WORKSPACE, named), 'utf8').trim();
  const commit = git('rev-parse', '--verify', '--quiet', `${name}^{commit}`);
  if (commit !== undefined) return { name, commit };
  return `needs the previous release, ${name}, in the history (\`git fetch --unshallow --tags\`)`;
}

function find(): Found | string {
  const from = previousCommit(NAMED);
  if (typeof from === 'string') return from;
  const { name, commit } = from;
  const packages = packagesIn(git('show', `${commit}:package-lock.json`) ?? '{"packages":{}}');
  const ours = packagesIn(ourLock());
  const isShared = Object.entries(packages).every(
    ([path, { version, link, dev, optional }]) =>
      !path.includes('node_modules/') || link || dev || optional || ours[path]?.version === version,
  );
  return { name, commit, packages, isShared };
}

const found = find();

/** Why there is no previous release to run here; undefined if there is. */
export const previousReleaseMissing: string | undefined = typeof found === 'string' ? found : undefined;
if (previousReleaseMissing !== undefined) console.warn(`Skipped: a test of mixed versions ${previousReleaseMissing}.`);

/** Text of a file of the previous release. */
export function readPrevious(path: string): string {
  if (typeof found === 'string') throw new Error(`This ${found}`);
  const text = git('show', `${found.commit}:${path}`);
  if (text === undefined) throw new Error(`The previous release, ${found.name}, has no ${path}.`);
  return text;
}

/** The programs of the previous release. The first call builds them. */
export async function previousRelease(): Promise<Release> {
  if (typeof found === 'string') throw new Error(`This ${found}`);
  const cache = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'carrierarr');
  const linked = found.isShared ? { workspace: WORKSPACE, lock: ourLock() } : undefined;
  const name = releaseName({ commit: found.commit, linked });
  const folder = join(cache, name);
  if (!existsSync(folder)) {
    await mkdir(cache, { recursive: true });
    const building = await mkdtemp(`${folder}-building-`);
    try {
      await build(found, building);
      await rename(building, folder).catch((error: unknown) => {
        // Another test has built it meanwhile.
        if (!existsSync(folder)) throw error;
      });
    } finally {
      await rm(building, { recursive: true, force: true });
    }
  }
  await usedNow(cache, name, Date.now());
  const main = join(folder, 'apps/cli/dist/main.js');
  const flagsOf = new Map<string, ReadonlySet<string>>();
  return {
    ...{ name: found.name, launch: [process.execPath, main] },
    known(program, flags) {
      let known = flagsOf.get(program);
      if (known === undefined) {
        const help = execFileSync(process.execPath, [main, program, '--help'], { encoding: 'utf8' });
        flagsOf.set(program, (known = new Set([...help.matchAll(/^ +(--[\w-]+)/gm)].map((match) => match[1] ?? ''))));
      }
      return flags.flatMap((flag, i) => (i % 2 === 0 && known.has(flag) ? [flag, flags[i + 1] ?? ''] : []));
    },
  };
}

async function build({ commit, packages, isShared }: Found, folder: string): Promise<void> {
  const archive = join(folder, 'archive.tar');
  await run('git', ['archive', '--output', archive, commit], { cwd: WORKSPACE });
  await run('tar', ['-xf', archive, '-C', folder]);
  await rm(archive);
  const options = { cwd: folder, maxBuffer: OUTPUT_BYTES_MAX };
  if (isShared) await linkPackages(packages, folder);
  else await run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'], options);
  // Its types were checked when it was released.
  const compiler = join(isShared ? WORKSPACE : folder, 'node_modules/typescript/lib/tsc.js');
  await run(process.execPath, [compiler, '-b', '--noCheck'], options);
  await run('npm', ['run', '--silent', '--if-present', 'bundle', '--workspace', 'apps/cli'], options);
}

async function linkPackages(packages: Packages, folder: string): Promise<void> {
  for (const [path, { link, resolved }] of Object.entries(packages)) {
    // What is within a package comes with it.
    if (path.split('node_modules/').length !== 2) continue;
    const at = join(folder, path);
    const installed = join(WORKSPACE, path);
    if (!link && !existsSync(installed)) continue;
    await mkdir(dirname(at), { recursive: true });
    await symlink(link ? relative(dirname(at), join(folder, resolved ?? '')) : installed, at);
  }
}
