/**
 * The images, built for tests, and Docker to run them with. Where no daemon answers {@link dockerMissing} says so, for
 * `describe.skipIf`: CI and most laptops have none, or not for us.
 *
 * What the images start from comes from a registry, unless `deploy/images/make-base.sh` has made it here.
 */
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';
import { WORKSPACE } from './programs.js';

function whyMissing(): string | undefined {
  if (process.platform !== 'linux') return 'needs Docker on Linux, where containers can share the network of the test';
  const { status } = spawnSync('docker', ['info'], { stdio: 'ignore', timeout: 10_000 });
  return status === 0 ? undefined : 'needs a Docker daemon that answers (`docker info`)';
}

/** Why images cannot be built and run here; undefined if they can. */
export const dockerMissing: string | undefined = whyMissing();
if (dockerMissing !== undefined) console.warn(`Skipped: a test of the images ${dockerMissing}.`);

const run = promisify(execFile);

/** Variables by which Docker's client finds its daemon. */
export function dockerEnv(): Record<string, string> {
  const ours = Object.entries(process.env).filter(([name]) => name.startsWith('DOCKER_'));
  return Object.fromEntries(ours.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
}

/** What docker printed, without the last line break; rejects with what it complained of. */
export async function docker(...args: string[]): Promise<string> {
  const { stdout } = await run('docker', args, { maxBuffer: 16 * 1024 * 1024 });
  return stdout.trimEnd();
}

/** Images that others start from: those of `make-base.sh` if they are here. */
export function baseImages(): Readonly<
  Record<'BASE_IMAGE' | 'NODE_IMAGE' | 'REDIS_IMAGE' | 'RABBITMQ_IMAGE' | 'PROXY_IMAGE', string>
> {
  const isHere = (image: string) => spawnSync('docker', ['image', 'inspect', image], { stdio: 'ignore' }).status === 0;
  const made = (name: string, otherwise: string) => {
    const image = `carrierarr-base/${name}:trixie`;
    return isHere(image) ? image : otherwise;
  };
  return {
    BASE_IMAGE: made('debian', 'debian:trixie-slim'),
    NODE_IMAGE: made('node', 'node:24-trixie-slim'),
    REDIS_IMAGE: made('redis', 'valkey/valkey:8.1.4'),
    RABBITMQ_IMAGE: made('rabbitmq', 'rabbitmq:4.1.4'),
    PROXY_IMAGE: made('proxy', 'haproxy:3.2'),
  };
}

/** The version of images that tests build. */
export const TEST_TAG = 'test';

/** Builds the image of a role as `carrierarr-ROLE:test`; layers that are there are used again. */
export async function buildImage(role: string): Promise<string> {
  const { BASE_IMAGE, NODE_IMAGE } = baseImages();
  const image = `carrierarr-${role}:${TEST_TAG}`;
  const base = ['--build-arg', `BASE_IMAGE=${BASE_IMAGE}`, '--build-arg', `NODE_IMAGE=${NODE_IMAGE}`];
  await docker('build', '--network', 'host', '--target', role, '--tag', image, ...base, WORKSPACE);
  return image;
}

/** Containers that a test has started, by what they are labelled with, are gone when this resolves. */
export async function removeContainers(label: string): Promise<void> {
  const ids = await docker('ps', '--all', '--quiet', '--filter', `label=${label}`);
  if (ids !== '') await docker('rm', '--force', '--volumes', ...ids.split('\n'));
}

/** How `docker run` must be told to run one of ours: with as little as the chart gives it. */
export const HARDENED: readonly string[] = [
  ...['--read-only', '--tmpfs', '/tmp', '--cap-drop', 'ALL', '--security-opt', 'no-new-privileges'],
];

/** The command line of Docker Compose, old or new; undefined if there is none. */
export function composeCommand(): readonly [string, ...string[]] | undefined {
  const answers = (file: string, ...args: string[]) => {
    try {
      execFileSync(file, [...args, 'version'], { stdio: 'ignore' });
      return true;
    } catch {
      return false; // Not installed; the caller says what follows.
    }
  };
  if (answers('docker', 'compose')) return ['docker', 'compose'];
  return answers('docker-compose') ? ['docker-compose'] : undefined;
}
