/**
 * The chart in a cluster that runs pods: it comes up under the restricted Pod Security Standard, its own test passes, and
 * every pod can be replaced under load without a client that misses a line, a request that is not answered, or a program that has
 * to be killed. Clients come through the Service, by its port on a node, which this machine must reach. Needs a cluster for tests
 * with a storage class (KUBECONFIG, CLUSTER_FOR_TESTS) that has the images (CLUSTER_IMAGES).
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { inCluster, podsMissing, readRepository } from '../../support/deploy-tools.js';
import { parseJournal } from '../../support/history.js';
import { checkHistory, summarise } from '../../support/history-checker.js';
import { PodsWatch } from '../../support/pods-watch.js';
import { Prober } from '../../support/prober.js';
import { WORKSPACE } from '../../support/programs.js';
import { Recorder } from '../../support/recorder.js';
import { until } from '../../support/until.js';
import { COMMAND_ID, NewClient } from '../../support/ws-clients.js';
import { CHART, type ComponentName, COMPONENTS } from './chart.js';
import { onDisk } from './on-disk.js';
import { AGENT, AGENTS_SECRET, rolloutValues, WITNESS } from './rollout.values.js';

const NAMESPACE = `carrierarr-rollout-${randomBytes(4).toString('hex')}`;
const inside = ['--namespace', NAMESPACE];
const minute = 60_000;
/** What each client runs, again and again. The last runs longer than Kubernetes waits by default for a pod to stop. */
const LOADS: readonly { target: string; command: readonly (string | number)[] }[] = [
  { target: 'worker-1', command: ['write', 100, 10, 0.02] },
  { target: 'worker-2', command: ['write', 100, 10, 0.02] },
  { target: AGENT, command: ['exec', WITNESS, 'write', COMMAND_ID, 100, 10, 0.02] },
  { target: 'worker-3', command: ['write', 800, 1, 0.05] },
];

const kubectl = async (...args: string[]) => (await inCluster.kubectl(...inside, ...args)).stdout;

describe.skipIf(podsMissing !== undefined)('a release in a cluster', () => {
  let url: string;
  let token: string;
  let pods: PodsWatch;
  let folder: string;

  beforeAll(async () => {
    await inCluster.kubectl('create', 'namespace', NAMESPACE);
    await inCluster.kubectl('label', 'namespace', NAMESPACE, 'pod-security.kubernetes.io/enforce=restricted');
    pods = PodsWatch.start(NAMESPACE);
    await kubectl('create', 'configmap', 'witness', `--from-file=${WORKSPACE}/test/fixtures/witness.sh`);
    const secret = randomBytes(32).toString('hex');
    const literals = [`--from-literal=tokens=agents ${secret}`, `--from-literal=token=${secret}`];
    await kubectl('create', 'secret', 'generic', AGENTS_SECRET, ...literals);
    const { appVersion } = parse(readRepository('deploy/helm/carrierarr/Chart.yaml')) as { appVersion: string };
    // As JSON: Helm would read some words of YAML otherwise than they are written.
    folder = await mkdtemp(join(tmpdir(), 'rollout-'));
    const values = join(folder, 'values.yaml');
    await writeFile(values, JSON.stringify(rolloutValues(appVersion)));
    await inCluster.helm('install', 'main', CHART, ...inside, '--values', values, '--wait', '--timeout', '5m');

    const one = async (...args: string[]) => (await kubectl('get', ...args)).trim();
    const port = await one('service', 'main-carrierarr-gateway', '--output', 'jsonpath={.spec.ports[0].nodePort}');
    const address = 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}';
    url = `http://${await one('nodes', '--output', address)}:${port}`;
    const text = await one('secret', 'main-carrierarr-auth', '--output', 'jsonpath={.data.token}');
    token = Buffer.from(text, 'base64').toString();
  }, 6 * minute);

  afterAll(async () => {
    await pods?.stop();
    await inCluster.kubectl('delete', 'namespace', NAMESPACE, '--wait=false');
    if (folder) await rm(folder, { recursive: true, force: true });
    await inCluster.forget();
  }, minute);

  const namesOf = async (component: string): Promise<string[]> => {
    const ours = `app.kubernetes.io/instance=main,app.kubernetes.io/component=${component}`;
    const names = await kubectl('get', 'pods', '--selector', ours, '--output', 'jsonpath={.items[*].metadata.name}');
    return names.split(' ');
  };

  test(
    'passes its own test',
    async () => {
      const { stdout } = await inCluster.helm('test', 'main', ...inside, '--timeout', '2m');
      expect(stdout).toContain('Succeeded');
    },
    3 * minute,
  );

  test.each(COMPONENTS)(
    'has nothing for the doctor to find, in the pod of a %s',
    async (component) => {
      const said = await kubectl('exec', `deployment/main-carrierarr-${component}`, '--', 'carrierarr', 'doctor');
      expect(said).toContain('leads.');
      expect(said).toMatch(/\d ok, 0 warn, 0 fail/);
    },
    60_000,
  );

  test(
    'lets one pod of a component be evicted at a time',
    async () => {
      const evict = async (name: string) => {
        const eviction = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name, namespace: NAMESPACE } };
        const path = `/api/v1/namespaces/${NAMESPACE}/pods/${name}/eviction`;
        await inCluster.kubectl('create', '--raw', path, '--filename', onDisk(JSON.stringify(eviction)));
      };
      const [first = '', second = ''] = await namesOf('monitor');
      await evict(first);
      await expect(evict(second)).rejects.toThrow("would violate the pod's disruption budget");
      await kubectl('rollout', 'status', 'deployment/main-carrierarr-monitor', '--timeout', '2m');
      await until('the first to be gone', () => pods.endOf(first), minute);
    },
    4 * minute,
  );

  test(
    'can have every pod replaced under load, and no client misses anything',
    async () => {
      // What ran before has no place in the history.
      await kubectl('exec', 'deployment/main-carrierarr-runner', '--', 'rm', '-f', '/witness/journal');
      const recorder = new Recorder();
      const clients = await Promise.all(
        LOADS.map(({ target }, index) =>
          NewClient.connect({
            ...{ name: `client ${index + 1}`, urls: () => [url], token, recorder },
            targets: index === 0 ? '*' : [...new Set([target, 'worker-1'])],
          }),
        ),
      );
      let isStopped = false;
      const load = clients.map(async (client, index) => {
        const { target = '', command: [verb = '', ...args] = [] } = LOADS[index] ?? {};
        // One at a time: else the verdict waits for all that wait.
        while (!isStopped) {
          const { execution } = await client.submitUntilAccepted(target, String(verb), ...args);
          const isOver = () => client.session.outcomeOf(execution) !== undefined;
          await until(`the outcome of ${execution}`, isOver, 3 * minute);
        }
      });
      const counts = () => clients.flatMap(({ session }) => ['worker-1', AGENT].map((name) => session.lineCount(name)));
      const outputAfter = async (what: string) => {
        const before = counts();
        const grows = () => counts().every((count, index) => before[index] === 0 || count > (before[index] ?? 0) + 50);
        await until(`output after ${what} was replaced`, grows, 2 * minute);
      };
      await until('output', () => clients[0]?.session.lineCount(AGENT), minute);

      for (const component of ['runner', 'gateway', 'monitor'] satisfies ComponentName[]) {
        const workload = `deployment/main-carrierarr-${component}`;
        const olds = await namesOf(component);
        expect(olds.length).toBe(2);
        const prober = Prober.start(`${url}/health`);
        await kubectl('rollout', 'restart', workload);
        await kubectl('rollout', 'status', workload, '--timeout', '4m');
        for (const name of olds) {
          const end = await until(`${name} to end`, () => pods.endOf(name), 3 * minute);
          expect([name, end.exitCode]).toEqual([name, 0]);
          expect(end.deadlineMs).toBeGreaterThan(end.finishedMs);
        }
        await outputAfter(workload);
        await prober.stop();
        expect(prober.failures).toEqual([]);
        expect(prober.answered).toBeGreaterThan(20);
      }
      // There is but one: clients wait for it.
      await kubectl('delete', 'pod', 'main-carrierarr-redis-0');
      await kubectl('rollout', 'status', 'statefulset/main-carrierarr-redis', '--timeout', '4m');
      await outputAfter('redis');
      isStopped = true;
      await Promise.all(load);

      const journal = async () =>
        parseJournal(await kubectl('exec', 'deployment/main-carrierarr-runner', '--', 'cat', '/witness/journal'));
      let pending: string | undefined;
      await until(
        () => `the history to come to rest: ${pending}`,
        async () => (pending = recorder.pending(await journal())) === undefined,
        minute,
      );
      const testimony = await journal();
      const report = checkHistory(recorder.history(testimony));
      process.stdout.write(`${summarise('every pod of the chart replaced', report)}\n`);
      for (const client of clients) client.stop();
      expect(report.violations.slice(0, 20)).toEqual([]);
      expect(report).toMatchObject({ lost: 0, doubled: 0, reordered: 0, doubleExecutions: 0 });
      const ran = new Set(testimony.flatMap((event) => (event.kind === 'start' ? [event.target] : [])));
      expect(ran).toEqual(new Set(LOADS.map(({ target }) => target)));
      // Each was told to move at least once.
      expect(Math.min(...clients.map(({ connections }) => connections))).toBeGreaterThan(1);
      // Whole, for they say why.
      const results = clients.flatMap(({ messages }) => messages.filter(({ type }) => type === 'result'));
      expect(results.length).toBeGreaterThan(0);
      expect(results.filter(({ outcome }) => outcome !== 'succeeded')).toEqual([]);
    },
    25 * minute,
  );
});
