/** Each values file of ci/ makes objects that Kubernetes takes, that are safe, and that fit each other. */
import { type ConfigSchema, loadConfig } from '@carrierarr/platform';
import { describe, expect, test } from 'vitest';
import { knownSchema } from '../../../apps/cli/src/doctor/schema.js';
import { gatewaySchema, validateGatewayConfig } from '../../../apps/gateway/src/config.js';
import { validateAgentsConfig } from '../../../apps/monitor/src/agents/config.js';
import { monitorSchema } from '../../../apps/monitor/src/monitor-config.js';
import { runnerSchema, validateRunnerConfig } from '../../../apps/runner/src/config.js';
import { helm, helmMissing } from '../../support/deploy-tools.js';
import {
  CHART,
  componentOf,
  COMPONENTS,
  find,
  type KubernetesObject,
  podOf,
  podsOf,
  render,
  RENDER_MS,
  SCENARIOS,
  selects,
} from './chart.js';
import { schemaProblems } from './kubernetes-schema.js';
import { podSecurityProblems, policyProblems } from './policies.js';
import { onDisk } from './on-disk.js';

const rendered = await Promise.all(
  SCENARIOS.map(async (name) => [name, helmMissing === undefined ? await render(name) : []] as const),
);

describe.skipIf(helmMissing !== undefined)('the chart', { timeout: RENDER_MS }, () => {
  test('passes helm lint --strict with every scenario', async () => {
    const files = SCENARIOS.map((name) => `${CHART}/ci/${name}-values.yaml`);
    for (const file of files)
      expect(await helm('lint', '--strict', CHART, '--values', file)).toContain('0 chart(s) failed');
  });

  describe.each(rendered)('with the values of %s', (scenario, objects) => {
    const ours = objects.filter((object) => object.metadata.labels !== undefined);

    test('makes objects that fit the schemas of Kubernetes, strictly', async () => {
      const problems = await Promise.all(
        objects.map(
          async (object) => [`${object.kind} ${object.metadata.name}`, await schemaProblems(object)] as const,
        ),
      );
      expect(problems.filter(([, wrong]) => wrong.length > 0)).toEqual([]);
    });

    test('makes pods that the restricted Pod Security Standard lets in', () => {
      expect(podsOf(objects).flatMap(({ spec }) => podSecurityProblems(spec))).toEqual([]);
    });

    test('makes pods with probes, limits, versions, and nothing that they do not need', () => {
      expect(podsOf(objects).flatMap(({ spec }) => policyProblems(spec))).toEqual([]);
    });

    test('gives every object a name of its own, the namespace, and labels', () => {
      const names = objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`);
      expect(new Set(names).size).toBe(names.length);
      expect(
        ours.filter(({ metadata }) => metadata.namespace !== 'fleet').map(({ metadata }) => metadata.name),
      ).toEqual([]);
      for (const { metadata } of ours) expect(metadata.labels['app.kubernetes.io/instance']).toBe('main');
    });

    test('selects by labels that pods have', () => {
      for (const { spec, kind, metadata } of ours) {
        const selector =
          kind === 'Service' ? spec.selector : (spec?.selector?.matchLabels ?? spec?.podSelector?.matchLabels);
        if (selector === undefined || kind === 'ServiceMonitor') continue;
        const pods = podsOf(objects).filter(({ labels }) => selects(selector, labels));
        expect([metadata.name, pods.length > 0]).toEqual([metadata.name, true]);
      }
    });

    test('mounts what is there: every Secret and ConfigMap that is ours is among the objects', () => {
      const made = new Set(objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`));
      const named = JSON.stringify(podsOf(objects).map(({ spec }) => spec));
      const secrets = [...named.matchAll(/"secretName":"([^"]+)"|"secretKeyRef":\{"name":"([^"]+)"/g)];
      const maps = [...named.matchAll(/"configMap":\{"name":"([^"]+)"/g)];
      const missing = [
        ...secrets.map((match) => `Secret ${match[1] ?? match[2]}`),
        ...maps.map((match) => `ConfigMap ${match[1]}`),
      ].filter((name) => / (main-|fleet-(gateway|runner|monitor|redis|auth))/.test(name) && !made.has(name));
      expect(missing).toEqual([]);
    });

    test('configures programs as they understand it', () => {
      for (const component of COMPONENTS) {
        const file = onDisk(configOf(objects, component));
        const { env = [] } = podOf(objects, component).container;
        const given = Object.fromEntries(
          env.map(({ name, value, valueFrom }) => [
            name,
            value ?? (valueFrom?.secretKeyRef ? 'redis://of.a.secret:6379' : 'pod-1'),
          ]),
        );
        const ofFiles = Object.entries(given).filter(([name]) => name.endsWith('_FILE'));
        const secretOf = (name: string) => (name.includes('URL') ? 'amqps://user:secret@rabbit.example' : 'secret');
        const secrets = Object.fromEntries(ofFiles.map(([name]) => [name, onDisk(secretOf(name))]));
        const read = <const S extends ConfigSchema>(schema: S) =>
          loadConfig({
            program: component,
            summary: '',
            schema,
            argv: [],
            env: { ...given, ...secrets, CARRIERARR_CONFIG: file },
          });
        const loaded = read(SCHEMAS[component]);
        expect([component, loaded.kind]).toEqual([component, 'config']);
        // `carrierarr doctor` in that pod reads the same.
        expect([component, read(knownSchema).kind]).toEqual([component, 'config']);
        if (component === 'gateway' && loaded.kind === 'config') {
          validateGatewayConfig(loaded.values as Parameters<typeof validateGatewayConfig>[0]);
        }
        if (component === 'runner' && loaded.kind === 'config') {
          validateRunnerConfig(loaded.values as Parameters<typeof validateRunnerConfig>[0]);
        }
        if (component === 'monitor' && loaded.kind === 'config') {
          validateAgentsConfig(loaded.values as Parameters<typeof validateAgentsConfig>[0]);
        }
      }
    });

    test('opens the ports that are configured, and lets policies and Services lead to those and no others', () => {
      for (const component of COMPONENTS) {
        const { container, labels } = podOf(objects, component);
        const listening = listeningPorts(configOf(objects, component));
        expect([component, (container.ports ?? []).map(({ containerPort }) => containerPort)]).toEqual([
          component,
          listening,
        ]);
        const numbers = new Map((container.ports ?? []).map(({ name, containerPort }) => [name, containerPort]));

        const services = objects.filter(({ kind, spec }) => kind === 'Service' && selects(spec.selector, labels));
        if (component === 'monitor') {
          const ofAgents = services.filter(({ metadata }) => metadata.name.endsWith('-agents'));
          expect([component, ofAgents.length]).toEqual([component, listening.length - 1]);
        }
        const targets = services.flatMap(({ spec }) => spec.ports ?? []).map(({ targetPort }) => String(targetPort));
        expect([component, targets.filter((name) => !numbers.has(name))]).toEqual([component, []]);

        const policies = policiesOf(objects, labels);
        expect([component, policies.length]).toEqual([component, 2]);
        const admitted = policies
          .flatMap(({ spec }) => spec.ingress ?? [])
          .flatMap(({ ports }) => ports ?? [{ port: 'any' }]);
        const reached = [...new Set(admitted.map(({ port }) => numbers.get(String(port)) ?? port))];
        // Nobody is let in to where nobody may scrape.
        const ofClients = component === 'gateway' ? listening.slice(0, 1) : [];
        const wanted = scenario === 'extras' ? ofClients : listening;
        expect([component, reached]).toEqual([component, wanted]);
      }
    });

    test('lets each pod out to names and Redis, and to no more than its values say', () => {
      for (const { owner, labels } of podsOf(objects)) {
        const component = componentOf(owner) ?? '';
        const egress = policiesOf(objects, labels).flatMap(({ spec }) => spec.egress ?? []);
        const ports = new Set(egress.flatMap((rule) => rule.ports ?? [{ port: 'any' }]).map(({ port }) => port));
        expect([component, ports.has('any')]).toEqual([component, false]);
        const redis = redisPorts(objects);
        const allowed: Record<string, (number | string)[]> = {
          gateway: [53, ...redis, ...(scenario === 'gateway-api' ? [8443] : [])],
          runner: [53, ...redis, ...(scenario === 'redis-url-secret' ? [80] : []), 443],
          monitor: [
            ...[53, ...redis, ...(RABBITMQ_PORTS[scenario] ?? [])],
            ...[...(scenario === 'redis-url-secret' ? [80] : []), 443],
          ],
          redis: [],
          test: [53, 'http'],
        };
        expect([component, [...ports]]).toEqual([component, allowed[component]]);
      }
    });
  });
});

/** Where scenarios have a RabbitMQ. Its address is in a Secret. */
const RABBITMQ_PORTS: Readonly<Record<string, number[]>> = {
  'agents-in-use': [5672],
  'agents-route': [5679],
  'production-eks': [5671],
};
const SCHEMAS = { gateway: gatewaySchema, runner: runnerSchema, monitor: monitorSchema };

const configOf = (objects: KubernetesObject[], component: string): string => {
  const [name = ''] = (podOf(objects, component).spec.volumes ?? []).flatMap(({ configMap }) =>
    configMap === undefined ? [] : [(configMap as { name: string }).name],
  );
  return find(objects, 'ConfigMap', name).data?.['config.yaml'] ?? '';
};

/** The port numbers of every address that a configuration says to listen on. */
const listeningPorts = (config: string): number[] =>
  [...config.matchAll(/^\w*[aA]ddr: "?.*:(\d+)"?$/gm)].map((match) => Number(match[1]));

const policiesOf = (objects: KubernetesObject[], labels: Record<string, string>): KubernetesObject[] =>
  objects.filter(({ kind, spec }) => kind === 'NetworkPolicy' && selects(spec.podSelector?.matchLabels, labels));

/** Ports on which Redis is reached, by the settings of the gateway and its Secret. */
function redisPorts(objects: KubernetesObject[]): number[] {
  const config = configOf(objects, 'gateway');
  const nodes = [...config.matchAll(/^- [\w.-]+:(\d+)$/gm)].map((match) => Number(match[1]));
  const url = /^redisUrl: .*:(\d+)$/m.exec(config)?.[1];
  if (url !== undefined) return [Number(url)];
  const hasSecret = podOf(objects, 'gateway').container.env?.some(({ name }) => name === 'CARRIERARR_REDIS_URL');
  if (hasSecret) return [6390];
  return [...new Set([...nodes, ...(config.includes('redisMode: sentinel') ? [6379] : [])])];
}
