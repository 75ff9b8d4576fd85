/**
 * Nodes are drained one after the other under load, as an upgrade of a cluster or an autoscaler does it, and no client misses anything. Needs what
 * rollout.test.ts needs on two nodes, and volumes that pods on both may share (CLUSTER_SHARED_CLASS).
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { inCluster, podsMissing, sharedClass } from '../../support/deploy-tools.js';
import { COMPONENTS } from './chart.js';
import { ReleaseLoad } from './release-load.js';
import { TestRelease } from './test-release.js';

const minute = 60_000;
/** The machine with an agent stays, and so does Redis: there is but one, and gateways that miss it for long let nobody in. */
const DRAINED = `app.kubernetes.io/instance=main,app.kubernetes.io/component in (${COMPONENTS.join(', ')})`;

const missing = podsMissing ?? (sharedClass === undefined ? 'needs volumes that nodes share' : undefined);

describe.skipIf(missing !== undefined)('a release on two nodes', () => {
  const release = new TestRelease();
  let nodes: string[] = [];

  beforeAll(async () => {
    await release.install({ sharedClass });
    const { stdout } = await inCluster.kubectl('get', 'nodes', '--output', 'jsonpath={.items[*].metadata.name}');
    nodes = stdout.split(' ');
  }, 6 * minute);
  afterAll(async () => {
    await inCluster.kubectl('uncordon', ...nodes);
    await release.end();
  }, minute);

  const podsOn = async (node: string) => {
    const where = ['--field-selector', `spec.nodeName=${node},status.phase=Running`, '--selector', DRAINED];
    const names = await release.kubectl('get', 'pods', ...where, '--output', 'jsonpath={.items[*].metadata.name}');
    return names.split(' ').filter((name) => name !== '');
  };

  test(
    'can have each node drained under load, and no client misses anything',
    async () => {
      expect(nodes).toHaveLength(2);
      // Each component is on both. The second node has all of them when its turn comes.
      for (const node of nodes) {
        const names = await podsOn(node);
        for (const component of COMPONENTS) expect(names).toContainEqual(expect.stringContaining(`-${component}-`));
      }
      const load = await ReleaseLoad.start(release);
      for (const node of nodes) {
        const olds = await podsOn(node);
        expect(olds).toHaveLength(node === nodes[0] ? COMPONENTS.length : 2 * COMPONENTS.length);
        const prober = release.probe();
        const drain = ['drain', node, '--ignore-daemonsets', '--delete-emptydir-data', '--timeout', '4m'];
        const { stderr } = await inCluster.kubectl(...drain, '--pod-selector', DRAINED);
        // Of two that are there the second stays until there is another.
        if (olds.length > COMPONENTS.length) expect(stderr).toContain("would violate the pod's disruption budget");
        expect((await release.endsOf(olds)).map(({ name, exitCode }) => [name, exitCode])).toEqual(
          olds.map((name) => [name, 0]),
        );
        for (const component of COMPONENTS) await release.rolledOut(`deployment/main-carrierarr-${component}`);
        expect(await podsOn(node)).toEqual([]);
        await load.outputAfter(`${node} was drained`);
        await prober.stop();
        expect(prober.answered).toBeGreaterThan(20);
        expect(prober.failures).toEqual([]);
        await inCluster.kubectl('uncordon', node);
      }
      await load.judge('each node drained');
    },
    25 * minute,
  );
});
