/** The chart as the tests of its parts see it: rendered, as objects. */
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';
import { helm } from '../../support/deploy-tools.js';

export const CHART = fileURLToPath(new URL('../../../deploy/helm/carrierarr', import.meta.url));

/** The values of ci/, by name: what each scenario is for is said in its first line. */
export const SCENARIOS = readdirSync(join(CHART, 'ci')).map((name) => basename(name, '-values.yaml'));
export const COMPONENTS = ['gateway', 'runner', 'monitor'] as const;
export type ComponentName = (typeof COMPONENTS)[number];

export interface Port {
  name?: string;
  containerPort?: number;
  port?: number | string;
  targetPort?: number | string;
  protocol?: string;
  appProtocol?: string;
}
export interface Container {
  name: string;
  image: string;
  args?: string[];
  env?: { name: string; value?: string; valueFrom?: { secretKeyRef?: { name: string; key: string } } }[];
  ports?: Port[];
  resources?: { requests?: Record<string, string>; limits?: Record<string, string> };
  securityContext?: Record<string, unknown>;
  livenessProbe?: Probe;
  readinessProbe?: Probe;
  startupProbe?: Probe;
  lifecycle?: { preStop?: { sleep?: { seconds: number } } };
  volumeMounts?: { name: string; mountPath: string }[];
}
interface Probe {
  httpGet?: { port: string | number; path: string };
}
export interface PodSpec {
  containers: Container[];
  initContainers?: Container[];
  volumes?: { name: string; [source: string]: unknown }[];
  securityContext?: Record<string, unknown>;
  terminationGracePeriodSeconds?: number;
  enableServiceLinks?: boolean;
  automountServiceAccountToken?: boolean;
  serviceAccountName?: string;
  [field: string]: unknown;
}
interface Rule {
  ports?: Port[];
  from?: unknown[];
  to?: unknown[];
}
/** A rendered object; only what tests look at has a type. */
export interface KubernetesObject {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    labels: Record<string, string>;
    annotations?: Record<string, string>;
  };
  data?: Record<string, string>;
  spec: {
    replicas?: number;
    strategy?: unknown;
    template?: { metadata: { labels: Record<string, string>; annotations?: Record<string, string> }; spec: PodSpec };
    selector?: Record<string, string> & { matchLabels?: Record<string, string> };
    ports?: Port[];
    podSelector?: { matchLabels?: Record<string, string> };
    policyTypes?: string[];
    ingress?: Rule[];
    egress?: Rule[];
    [field: string]: unknown;
  };
}

/** Values as `--set-json` of one map. */
type Values = Readonly<Record<string, unknown>>;

/** How long a test that renders may take: dozens of helm run beside it. */
export const RENDER_MS = 90_000;

const rendered = new Map<string, Promise<string>>();

/** The objects of a release named `main` in the namespace `fleet`, with the values of a scenario and then these. */
export async function render(scenario = 'default', values: Values = {}): Promise<KubernetesObject[]> {
  const args = renderArguments(scenario, values);
  const key = args.join('\n');
  let text = rendered.get(key);
  // Once in a test file: starting helm is what these tests do most of the time.
  if (text === undefined) rendered.set(key, (text = helm(...args)));
  return parseAllDocuments(await text)
    .map((document) => document.toJS() as KubernetesObject | null)
    .filter((object) => object !== null);
}

export function renderArguments(scenario: string, values: Values): string[] {
  const sets = Object.entries(values).flatMap(([key, value]) => ['--set-json', `${key}=${JSON.stringify(value)}`]);
  const file = join(CHART, 'ci', `${scenario}-values.yaml`);
  return ['template', 'main', CHART, '--namespace', 'fleet', '--values', file, ...sets];
}

/** Why helm refuses these values; empty if it does not. */
export async function refusal(values: Values, scenario = 'default'): Promise<string> {
  try {
    await helm(...renderArguments(scenario, values));
    return '';
  } catch (error) {
    return (error as { stderr: string }).stderr;
  }
}

export function find(objects: readonly KubernetesObject[], kind: string, name: string): KubernetesObject {
  const found = objects.find((object) => object.kind === kind && object.metadata.name === name);
  if (!found) {
    const there = objects.filter((object) => object.kind === kind).map((object) => object.metadata.name);
    throw new Error(`There is no ${kind} ${name}, only: ${there.join(', ') || 'none'}`);
  }
  return found;
}

export const componentOf = ({ metadata }: KubernetesObject): string | undefined =>
  metadata.labels['app.kubernetes.io/component'];

export interface RenderedPod {
  owner: KubernetesObject;
  labels: Record<string, string>;
  spec: PodSpec;
}

/** Every pod that the objects make. */
export function podsOf(objects: readonly KubernetesObject[]): RenderedPod[] {
  return objects.flatMap((owner): RenderedPod[] => {
    if (owner.kind === 'Pod') {
      return [{ owner, labels: owner.metadata.labels, spec: owner.spec as unknown as PodSpec }];
    }
    const template = owner.spec?.template;
    return template ? [{ owner, labels: template.metadata.labels, spec: template.spec }] : [];
  });
}

/** The pod of a component. */
export function podOf(objects: readonly KubernetesObject[], component: string): RenderedPod & { container: Container } {
  const pod = podsOf(objects).find(({ owner }) => componentOf(owner) === component);
  const container = pod?.spec.containers[0];
  if (!pod || !container) throw new Error(`There is no pod of ${component}`);
  return { ...pod, container };
}

/** Whether a selector of labels selects these. */
export function selects(selector: Record<string, string> = {}, labels: Record<string, string>): boolean {
  return Object.entries(selector).every(([key, value]) => labels[key] === value);
}
