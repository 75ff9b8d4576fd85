/**
 * A real API server takes every object of every scenario, where KUBECONFIG leads to one: a server knows what no schema says,
 * such as which names, ports, selectors and expressions go together. It is asked what it would do, and nothing is made,
 * unless the cluster is there for tests (CLUSTER_FOR_TESTS=1): then all happens in a namespace of the test's own, which demands the
 * restricted Pod Security Standard, and a release is really made, changed and taken away. Kinds that the cluster does not serve,
 * such as those of the Gateway API before its definitions are installed, are left out and named.
 */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { clusterMissing, helm, inCluster, isClusterForTests, readRepository } from '../../support/deploy-tools.js';
import { CHART, type KubernetesObject, RENDER_MS, SCENARIOS } from './chart.js';
import { onDisk } from './on-disk.js';

const NAMESPACE = isClusterForTests ? `carrierarr-test-${randomBytes(4).toString('hex')}` : 'default';
const { kubectl } = inCluster;

describe.skipIf(clusterMissing !== undefined)('a real API server', { timeout: RENDER_MS }, () => {
  beforeAll(async () => {
    if (!isClusterForTests) return;
    await kubectl('create', 'namespace', NAMESPACE);
    const modes = ['enforce', 'warn'].map((mode) => `pod-security.kubernetes.io/${mode}=restricted`);
    await kubectl('label', 'namespace', NAMESPACE, ...modes);
    // The controllers of a cluster make it, at their leisure; an API server alone lets no pod be without it.
    await kubectl('create', 'serviceaccount', 'default', ...inside).catch((error: unknown) => {
      if (!/already ?exists/i.test(String(error))) throw error;
    });
  });
  afterAll(async () => {
    if (isClusterForTests) await kubectl('delete', 'namespace', NAMESPACE, '--wait=false');
    await inCluster.forget();
  });

  test.each(SCENARIOS)('takes every object of %s, without a warning', async (scenario) => {
    const { known, unknown } = await split(await objectsOf(scenario));
    if (unknown.length > 0) console.warn(`Left out, as this cluster does not know them: ${unknown.join(', ')}.`);
    const { stdout, stderr } = await submit(known);
    expect(known.map(({ kind }) => kind)).toContain('Deployment');
    expect(stdout.trim().split('\n').length).toBe(known.length);
    expect(stderr).toBe('');
    if (unknown.length > 0) return;
    const installed = await inCluster.helm('install', 'main', ...chartOf(scenario), '--dry-run=server');
    expect(installed.stdout).toContain('kind: Deployment');
  });

  test('would refuse a field that it does not know', async () => {
    const misspelt = (await objectsOf('default')).map((object) =>
      object.kind === 'Service' ? { ...object, spec: { ...object.spec, selectors: {} } } : object,
    );
    await expect(submit(misspelt)).rejects.toThrow('unknown field "spec.selectors"');
  });

  test.skipIf(!isClusterForTests)(
    'would refuse a pod that may be root, and warn of a Deployment that makes one',
    async () => {
      const text = JSON.stringify(await objectsOf('default')).replaceAll('"runAsNonRoot":true', '"runAsNonRoot":false');
      const refused = submit(JSON.parse(text) as KubernetesObject[]);
      await expect(refused).rejects.toThrow(/"main-carrierarr-test" is forbidden: violates PodSecurity "restricted/);
      await expect(refused).rejects.toThrow('Warning: would violate PodSecurity "restricted');
    },
  );

  test.skipIf(!isClusterForTests)(
    'keeps the token of a release over an upgrade and a rollback, and nothing after it is taken away',
    async () => {
      const token = async () =>
        (await kubectl('get', 'secret', 'kept-carrierarr-auth', ...inside, '--output', 'json')).stdout;
      const dataOf = (json: string) => (JSON.parse(json) as KubernetesObject).data;
      await inCluster.helm('install', 'kept', ...chartOf('default'));
      const made = dataOf(await token());
      expect(made?.['token']).toMatch(/^.{40}/);
      // As the guide has what is installed looked at again, before an upgrade.
      const next = onDisk(await helm('template', 'kept', ...chartOf('default'), '--skip-tests'));
      const look = /^kubectl (apply .*) objects\.yaml$/m.exec(
        readRepository('docs/how-to/install-in-a-cluster.md'),
      )?.[1];
      expect(look).toContain('--dry-run=server');
      expect((await kubectl(...(look ?? '').split(' '), next)).stderr).toBe('');
      await inCluster.helm('upgrade', 'kept', ...chartOf('default'), '--set', 'gateway.replicas=3');
      expect(dataOf(await token())).toEqual(made);
      await inCluster.helm('rollback', 'kept', ...inside);
      expect(dataOf(await token())).toEqual(made);
      await inCluster.helm('uninstall', 'kept', ...inside);
      const kinds = 'deployments,statefulsets,services,configmaps,secrets,networkpolicies,serviceaccounts';
      const ours = ['--selector', 'app.kubernetes.io/instance=kept', '--output', 'name'];
      expect((await kubectl('get', kinds, ...inside, ...ours)).stdout).toBe('');
    },
  );
});

const inside = ['--namespace', NAMESPACE];
const chartOf = (scenario: string) => [CHART, ...inside, '--values', `${CHART}/ci/${scenario}-values.yaml`];

async function objectsOf(scenario: string): Promise<KubernetesObject[]> {
  return parseAllDocuments(await helm('template', 'main', ...chartOf(scenario)))
    .map((document) => document.toJS() as KubernetesObject | null)
    .filter((object) => object !== null);
}

/** The objects whose API the cluster serves, and the kinds of the others. */
async function split(objects: KubernetesObject[]): Promise<{ known: KubernetesObject[]; unknown: string[] }> {
  const served = new Set((await kubectl('api-versions')).stdout.split('\n'));
  const known = objects.filter(({ apiVersion }) => served.has(apiVersion));
  const others = objects.filter((object) => !known.includes(object)).map(({ kind }) => kind);
  return { known, unknown: [...new Set(others)] };
}

/** Has the server say what it would do with these. */
function submit(objects: KubernetesObject[]): Promise<{ stdout: string; stderr: string }> {
  const file = onDisk(objects.map((object) => JSON.stringify(object)).join('\n---\n'));
  return kubectl('apply', '--dry-run=server', '--validate=strict', '--output', 'name', '--filename', file);
}
