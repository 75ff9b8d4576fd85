/**
 * A release of the chart goes from the images of the previous release to today's and back under load, so that programs of both
 * work side by side meanwhile. Needs what rollout.test.ts needs, and the tag of the former (CLUSTER_PREVIOUS_TAG).
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { podsMissing, previousTag } from '../../support/deploy-tools.js';
import { COMPONENTS } from './chart.js';
import { ReleaseLoad } from './release-load.js';
import { appVersion, TestRelease } from './test-release.js';

const minute = 60_000;
/** The previous release may know no agents. */
const hasAgent = false;

describe.skipIf(podsMissing !== undefined || previousTag === undefined)('the previous release in a cluster', () => {
  const previous = previousTag ?? '';
  const release = new TestRelease();

  beforeAll(() => release.install({ tag: previous, hasAgent }), 6 * minute);
  afterAll(() => release.end(), minute);

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
