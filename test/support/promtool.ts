/**
 * Prometheus' own tool for rules, the one on the PATH, where `scripts/setup.sh test` puts it on Debian and Ubuntu. Where there is none
 * {@link promtoolMissing} says so, for `describe.skipIf`.
 */
import { execFile, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';

const isThere = spawnSync('promtool', ['--version'], { stdio: 'ignore' }).status === 0;

/** Why rules cannot be evaluated here; undefined if they can. */
export const promtoolMissing: string | undefined = isThere ? undefined : 'needs promtool on the PATH';
if (promtoolMissing !== undefined) console.warn(`Skipped: a test of the alerts ${promtoolMissing}.`);

/** What promtool printed; rejects with an Error that says what it complained of. */
export async function promtool(...args: string[]): Promise<string> {
  try {
    const { stdout, stderr } = await promisify(execFile)('promtool', args);
    return stdout + stderr;
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`promtool ${args.join(' ')}:\n${stdout}${stderr}`, { cause: error });
  }
}
