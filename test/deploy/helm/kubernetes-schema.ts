/**
 * Judges objects by Kubernetes' own schemas, and strictly: what a schema does not know is an error, as with
 * `kubectl --validate=strict`. The schemas are compiled to functions that read each property they know, so what they
 * never read they do not know.
 */
import { importSchema } from '../../support/deploy-tools.js';
import type { KubernetesObject } from './chart.js';

interface Validate {
  (object: unknown): boolean;
  errors?: { instancePath: string; message?: string; keyword: string; params: unknown }[] | null;
}

/** Where the schema of a kind is: `PACKAGE/_schemas/NAME.js`, by the group of the API. */
const PACKAGES: Readonly<Record<string, [path: string, prefix: string]>> = {
  '': ['kubernetes-models', 'IoK8sApiCore'],
  apps: ['kubernetes-models', 'IoK8sApiApps'],
  autoscaling: ['kubernetes-models', 'IoK8sApiAutoscaling'],
  policy: ['kubernetes-models', 'IoK8sApiPolicy'],
  'networking.k8s.io': ['kubernetes-models', 'IoK8sApiNetworking'],
  'gateway.networking.k8s.io': ['@kubernetes-models/gateway-api', 'IoK8sSigsGatewayApiApis'],
  'keda.sh': ['@kubernetes-models/keda', 'ComGithubKedacoreKedaV2ApisKeda'],
  'monitoring.coreos.com': [
    '@kubernetes-models/prometheus-operator',
    'ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoring',
  ],
};

async function schemaOf({ apiVersion, kind }: KubernetesObject): Promise<Validate> {
  const [group = '', version = ''] = apiVersion.includes('/') ? apiVersion.split('/') : ['', apiVersion];
  const [path, prefix] = PACKAGES[group] ?? [];
  if (path === undefined) throw new Error(`No schemas are known of ${apiVersion} ${kind}.`);
  const name = `${prefix}${version.charAt(0).toUpperCase()}${version.slice(1)}${kind}`;
  return ((await importSchema(`${path}/_schemas/${name}.js`)) as { validate: Validate }).validate;
}

/** What is wrong with an object, each with its path; none if it is right. */
export async function schemaProblems(object: KubernetesObject): Promise<string[]> {
  const validate = await schemaOf(object);
  const watched: Watched[] = [];
  validate(watch(object, '', watched));
  const wrong = (validate.errors ?? []).map(
    ({ instancePath, keyword, params }) => `${instancePath}: ${keyword} ${JSON.stringify(params)}`,
  );
  const unknown = watched.flatMap(({ path, value, read }) =>
    Object.keys(value)
      .filter((key) => !read.has(key))
      .map((key) => `${path}/${key}: unknown`),
  );
  return [...wrong, ...unknown];
}

interface Watched {
  path: string;
  value: object;
  read: Set<string>;
}

/** The same value, with a note of each property that is read anywhere in it. */
function watch(value: unknown, path: string, watched: Watched[]): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const read = new Set<string>();
  const children = new Map<string, unknown>();
  watched.push({ path, value, read });
  return new Proxy(value, {
    get(target, key) {
      const child: unknown = Reflect.get(target, key);
      if (typeof key !== 'string' || !Object.hasOwn(target, key)) return child;
      read.add(key);
      if (!children.has(key)) children.set(key, watch(child, `${path}/${key}`, watched));
      return children.get(key);
    },
  });
}
