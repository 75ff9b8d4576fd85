/**
 * The chart in a cluster that runs pods: it comes up under the restricted Pod Security Standard, its own test passes, and
 * every pod can be replaced under load without a client that misses a line, a request that is not answered, or a program that has
 * to be killed. Needs a cluster for tests with a storage class (KUBECONFIG, CLUSTER_FOR_TESTS) that has the images
 * (CLUSTER_IMAGES).
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { inCluster, podsMissing } from '../../support/deploy-tools.js';
import { until } from '../../support/until.js';
import { type ComponentName, COMPONENTS } from './chart.js';
import { onDisk } from './on-disk.js';
import { ReleaseLoad } from './release-load.js';
import { TestRelease } from './test-release.js';

const minute = 60_000;

describe.skipIf(podsMissing !== undefined)('a release in a cluster', () => {
  const release = new TestRelease();

  beforeAll(() => release.install(), 6 * minute);
  afterAll(() => release.end(), minute);

  test(
    'passes its own test',
    async () => {
      expect(await release.helm('test', 'main', '--timeout', '2m')).toContain('Succeeded');
    },
    3 * minute,
  );

  test.each(COMPONENTS)(
    'has nothing for the doctor to find, in the pod of a %s',
    async (component) => {
      const said = await release.kubectl(
        'exec',
        `deployment/main-carrierarr-${component}`,
        '--',
        'carrierarr',
        'doctor',
      );
      expect(said).toContain('leads.');
      expect(said).toMatch(/\d ok, 0 warn, 0 fail/);
    },
    60_000,
  );

  test(
    'lets one pod of a component be evicted at a time',
    async () => {
      const evict = async (name: string) => {
        const metadata = { name, namespace: release.namespace };
        const eviction = { apiVersion: 'policy/v1', kind: 'Eviction', metadata };
        const path = `/api/v1/namespaces/${release.namespace}/pods/${name}/eviction`;
        await inCluster.kubectl('create', '--raw', path, '--filename', onDisk(JSON.stringify(eviction)));
      };
      const [first = '', second = ''] = await release.podsOf('monitor');
      await evict(first);
      await expect(evict(second)).rejects.toThrow("would violate the pod's disruption budget");
      await release.rolledOut('deployment/main-carrierarr-monitor');
      await until('the first to be gone', () => release.pods.endOf(first), minute);
    },
    4 * minute,
  );

  test(
    'can have every pod replaced under load, and no client misses anything',
    async () => {
      const load = await ReleaseLoad.start(release);
      for (const component of ['runner', 'gateway', 'monitor'] satisfies ComponentName[]) {
        const workload = `deployment/main-carrierarr-${component}`;
        const olds = await release.podsOf(component);
        expect(olds.length).toBe(2);
        const prober = release.probe();
        await release.kubectl('rollout', 'restart', workload);
        await release.rolledOut(workload);
        for (const { name, exitCode, deadlineMs, finishedMs } of await release.endsOf(olds)) {
          expect([name, exitCode]).toEqual([name, 0]);
          expect(deadlineMs).toBeGreaterThan(finishedMs);
        }
        await load.outputAfter(`${workload} was replaced`);
        await prober.stop();
        expect(prober.failures).toEqual([]);
        expect(prober.answered).toBeGreaterThan(20);
      }
      // There is but one: clients wait for it.
      await release.kubectl('delete', 'pod', 'main-carrierarr-redis-0');
      await release.rolledOut('statefulset/main-carrierarr-redis');
      await load.outputAfter('redis was replaced');
      await load.judge('every pod of the chart replaced');
    },
    25 * minute,
  );
});
