/**
 * The chart of the release before this one, as it came with it: a chart tells programs what they know, and those of another release may refuse it.
 * It is that of the newest `v*` tag below HEAD; while there is none, of the commit that `test/fixtures/previous-chart` names, as there was no chart yet at
 * that of the programs (previous-release.ts). previous-chart.test.ts holds that the two fit.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { git, previousCommit, previousReleaseMissing } from './previous-release.js';
import { WORKSPACE } from './programs.js';

const CHART = 'deploy/helm/carrierarr';
const found = previousCommit('test/fixtures/previous-chart');

/** Why there is no such chart here, or no programs for it; undefined if there are. */
export const previousChartMissing: string | undefined =
  previousReleaseMissing ?? (typeof found === 'string' ? found : undefined);

/** Path of that chart, unpacked in a folder that is the caller's to take away. */
export function previousChart(folder: string): string {
  if (typeof found === 'string') throw new Error(`This ${found}`);
  if (!git('ls-tree', '--name-only', found.commit, `${CHART}/Chart.yaml`)) {
    throw new Error(`The previous release, ${found.name}, has no ${CHART}.`);
  }
  const archive = execFileSync('git', ['archive', found.commit, CHART], {
    cwd: WORKSPACE,
    maxBuffer: 64 * 1024 * 1024,
  });
  execFileSync('tar', ['-x', '-C', folder], { input: archive });
  return join(folder, CHART);
}
