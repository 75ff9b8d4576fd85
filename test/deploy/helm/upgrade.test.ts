/**
 * A release of the previous version, of its chart and its images, goes to those of today and back under load, so that programs of both work side by
 * side meanwhile. Needs what rollout.test.ts needs, and the tag of the images of the former (CLUSTER_PREVIOUS_TAG). What can be
 * seen of its chart without a cluster is in previous-chart.test.ts.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { podsMissing, previousTag } from '../../support/deploy-tools.js';
import { previousChart, previousChartMissing } from '../../support/previous-chart.js';
import { COMPONENTS } from './chart.js';
import { ReleaseLoad } from './release-load.js';
import { appVersion, TestRelease } from './test-release.js';

const minute = 60_000;
/** The previous release may know no agents. */
const hasAgent = false;

const missing = podsMissing ?? previousChartMissing ?? (previousTag === undefined ? 'needs images' : undefined);

describe.skipIf(missing !== undefined)('the previous release in a cluster', () => {
  const previous = previousTag ?? '';
  const release = new TestRelease();
  let folder: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'previous-chart-'));
    await release.install({ chart: previousChart(folder), tag: previous, hasAgent });
  }, 6 * minute);
  afterAll(async () => {
    await release.end();
    await rm(folder, { recursive: true });
  }, minute);

  test(
    'is upgraded and rolled back under load, and no client misses anything',
    async () => {
      const load = await ReleaseLoad.start(release, { hasAgent });
      /** Resolves when no pod is left of those that were there before. */
      const replaced = async (byWhat: string, change: () => Promise<unknown>) => {
        const olds = (await Promise.all(COMPONENTS.map((component) => release.podsOf(component)))).flat();
        const prober = release.probe();
        await change();
        for (const component of COMPONENTS) await release.rolledOut(`deployment/main-carrierarr-${component}`);
        const ends = await release.endsOf(olds);
        expect(ends.map(({ name, exitCode }) => [name, exitCode])).toEqual(olds.map((name) => [name, 0]));
        await load.outputAfter(byWhat);
        await prober.stop();
        expect(prober.failures).toEqual([]);
      };
      const tags = async () => {
        const images = await release.kubectl('get', 'deployments', '--output', 'jsonpath={..image}');
        return new Set(images.split(' ').map((image) => image.split(':').at(-1)));
      };

      expect(await tags()).toEqual(new Set([previous]));
      await replaced('the upgrade', () => release.upgrade({ hasAgent }));
      expect(await tags()).toEqual(new Set([appVersion]));
      await replaced('the rollback', () => release.helm('rollback', 'main'));
      expect(await tags()).toEqual(new Set([previous]));
      await load.judge('the previous release upgraded and rolled back');
    },
    25 * minute,
  );
});
