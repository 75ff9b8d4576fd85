/**
 * A machine of its own, as far as the network goes: a namespace with one cable to this one, which can be cut so that both ends
 * believe it to be there. Linux, as root, with `ip` of iproute2.
 */
import { execFile, execFileSync } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { promisify } from 'node:util';

const ip = async (...args: string[]) => (await promisify(execFile)('ip', args)).stdout;
/** Nobody's: what is sent to it arrives nowhere, and nobody says so. */
const NOWHERE = '02:de:ad:00:00:01';

/** Why there can be no namespace here; undefined if there can. */
export const namespaceMissing = (() => {
  const name = `carrierarr-${randomBytes(3).toString('hex')}`;
  try {
    execFileSync('ip', ['netns', 'add', name], { stdio: 'pipe' });
    execFileSync('ip', ['netns', 'delete', name], { stdio: 'pipe' });
    return undefined;
  } catch (error) {
    return `network namespaces cannot be made here: ${(error as Error).message}`;
  }
})();

export interface NetworkNamespace {
  /** Address of this machine, as seen from within; and from here, too. */
  readonly outside: string;
  /** Command line that begins a program within. */
  readonly enter: readonly ['ip', ...string[]];
  /** From now on nothing arrives, in either direction. */
  cut(): Promise<void>;
  mend(): Promise<void>;
  /** Programs within must have ended. */
  remove(): Promise<void>;
}

export async function addNamespace(): Promise<NetworkNamespace> {
  const id = randomBytes(3).toString('hex');
  const [name, here, there] = [`carrierarr-${id}`, `ca${id}a`, `ca${id}b`];
  // Of the addresses that are set aside for tests of network devices.
  const net = `198.18.${randomInt(256)}`;
  const [outside, inside] = [`${net}.1`, `${net}.2`];
  await ip('netns', 'add', name);
  await ip('link', 'add', here, 'type', 'veth', 'peer', 'name', there, 'netns', name);
  await ip('address', 'add', `${outside}/30`, 'dev', here);
  await ip('link', 'set', here, 'up');
  const within = (...args: string[]) => ip('-n', name, ...args);
  await within('address', 'add', `${inside}/30`, 'dev', there);
  await within('link', 'set', there, 'up');
  await within('link', 'set', 'lo', 'up');
  const macOf = (text: string) => /link\/ether (\S+)/.exec(text)?.[1] ?? '';
  const [macHere, macThere] = [macOf(await ip('link', 'show', here)), macOf(await within('link', 'show', there))];
  const reach = async (toThere: string, toHere: string) => {
    await ip('neighbour', 'replace', inside, 'lladdr', toThere, 'dev', here, 'nud', 'permanent');
    await within('neighbour', 'replace', outside, 'lladdr', toHere, 'dev', there, 'nud', 'permanent');
  };
  return {
    outside,
    enter: ['ip', 'netns', 'exec', name],
    cut: () => reach(NOWHERE, NOWHERE),
    mend: () => reach(macThere, macHere),
    async remove() {
      // The other end goes with it; by itself the namespace takes its time.
      await ip('link', 'delete', here);
      await ip('netns', 'delete', name);
    },
  };
}
