/**
 * The schema of the chart's values. What belongs to Kubernetes is only held to its outline, as its own API server judges
 * the rest; the settings of the programs come from the programs, so that a misspelt one stops at `helm install` and not
 * in a pod that restarts for ever.
 */
import { gatewaySchema } from '@carrierarr/gateway';
import { monitorSchema } from '@carrierarr/monitor';
import { historySchema, logSchema, redisSchema, resolveKeys } from '@carrierarr/platform';
import { runnerSchema } from '@carrierarr/runner';

// --- building blocks -------------------------------------------------------------------------------------------------

const object = (properties, more = {}) => ({ type: 'object', additionalProperties: false, properties, ...more });
const open = { type: 'object' };
const textMap = { type: 'object', additionalProperties: { type: 'string' } };
const list = (items) => ({ type: 'array', items });
const text = { type: 'string' };
const boolean = { type: 'boolean' };
const word = (...choices) => ({ type: 'string', enum: choices });
const whole = (minimum, maximum) => ({ type: 'integer', minimum, ...(maximum === undefined ? {} : { maximum }) });
const orNull = (schema) => ({ ...schema, type: [schema.type, 'null'] });
const matching = (pattern, description) => ({ type: 'string', pattern, description });

const port = whole(1, 65_535);
const quantity = matching(String.raw`^[0-9]+(\.[0-9]+)?([EPTGMk]i?|m)?$`, 'a quantity such as 512Mi or 8Gi');
const digest = matching('^(sha256:[0-9a-f]{64})?$', 'sha256: and 64 hex digits');
const path = matching('^/', 'an absolute path');
const duration = matching(String.raw`^(0|([0-9]+(\.[0-9]+)?(ms|h|m|s))+)$`, 'a duration such as 30s, 2m or 1h30m');
const prometheusDuration = matching('^([0-9]+(ms|[smhdwy]))+$', 'a duration such as 30s');
const countOrPercent = { anyOf: [whole(0), matching('^[0-9]{1,3}%$', 'a percentage')] };
const resources = object({ requests: open, limits: open, claims: list(open) });
const tag = { type: ['string', 'number'] };
const named = { type: 'object', required: ['name'], properties: { name: { type: 'string', minLength: 1 } } };

// --- settings of the programs ----------------------------------------------------------------------------------------

const BYTES = matching(String.raw`^[0-9]+(\.[0-9]+)?(B|KiB|MiB|GiB|TiB)?$`, 'a size such as 64KiB or 16MiB');

/** The JSON schema of one setting, from the words in which the program says what is allowed. */
function setting({ key, definition, allowed }) {
  const range = /^a whole number from (\d+) to (\d+)$/.exec(allowed);
  if (range) return whole(Number(range[1]), Number(range[2]));
  if (allowed.startsWith('a duration')) return { ...duration, description: allowed };
  if (allowed.startsWith('a size')) return { ...BYTES, type: ['string', 'integer'], description: allowed };
  if (allowed.startsWith('one of ')) return word(...allowed.slice('one of '.length).split(', '));
  if (allowed === 'true or false') return boolean;
  if (definition.placeholder === 'JSON') return textMap;
  if (definition.item) return list(setting({ key, definition: definition.item, allowed: definition.item.allowed }));
  return { type: 'string', minLength: 1, description: allowed };
}

const SHARED = new Set([
  ...Object.keys(historySchema),
  ...Object.keys(logSchema),
  ...['queueLengthMax', 'pendingTargetsMax', 'redisKeyPrefix'],
]);
/** What the chart sets by itself, out of values of its own. */
const OF_THE_CHART = new Set([
  ...Object.keys(redisSchema),
  ...['addr', 'gatewayId', 'tokensFile', 'allowAnonymous', 'jwtJwksUrl', 'jwtJwksFile'],
  ...['jwtIssuer', 'jwtAudience', 'jwtSubjectClaim'],
  ...['script', 'runnerId', 'monitorId', 'opsAddr', 'grpcAddr', 'grpcInsecure', 'agentTokensFile'],
  ...['grpcTlsCert', 'grpcTlsKey', 'grpcTlsClientCa', 'rabbitmqUrl', 'rabbitmqVhost'],
]);

function settingsOf(schema, isWanted) {
  const keys = resolveKeys(schema).filter(({ key }) => isWanted(key));
  return object(Object.fromEntries(keys.map((key) => [key.key, setting(key)])));
}
const own = (schema) => settingsOf(schema, (key) => !SHARED.has(key) && !OF_THE_CHART.has(key));

// --- parts of several components -------------------------------------------------------------------------------------

const image = object({ repository: { type: 'string', minLength: 1 }, tag, digest });
const scheduling = {
  nodeSelector: textMap,
  tolerations: list(open),
  affinity: open,
  priorityClassName: text,
  podLabels: textMap,
  podAnnotations: textMap,
};
const component = {
  replicas: whole(0),
  image,
  terminationGracePeriodSeconds: orNull(whole(0)),
  resources,
  pdb: object({ enabled: boolean, maxUnavailable: countOrPercent }),
  antiAffinity: word('soft', 'hard', 'off'),
  topologySpreadConstraints: list(open),
  ...scheduling,
  extraEnv: list(named),
  extraEnvFrom: list(open),
  extraVolumes: list(named),
  extraVolumeMounts: list(named),
  extraContainers: list(named),
  extraInitContainers: list(named),
  serviceAccount: object({ create: boolean, name: text, annotations: textMap }),
};
const rules = list(open);
const scrape = object({ enabled: boolean, interval: prometheusDuration, labels: textMap });
const service = object({
  type: word('ClusterIP', 'NodePort', 'LoadBalancer'),
  port,
  annotations: textMap,
  nodePort: orNull(whole(1, 65_535)),
  loadBalancerClass: text,
  loadBalancerSourceRanges: list(text),
  externalTrafficPolicy: word('', 'Cluster', 'Local'),
});
const ingress = object({
  enabled: boolean,
  preset: word('', 'nginx', 'traefik', 'alb'),
  className: text,
  hosts: list({ type: 'string', minLength: 1 }),
  tls: list(object({ secretName: text, hosts: list(text) })),
  ...{ annotations: textMap, labels: textMap },
  alb: object({ scheme: word('internal', 'internet-facing'), certificateArn: matching('^(arn:.+)?$', 'an ARN') }),
});
const route = {
  enabled: boolean,
  parentRefs: list(named),
  hostnames: list(text),
  annotations: textMap,
  labels: textMap,
};
const routeTimeouts = object({ request: prometheusDuration, backendRequest: prometheusDuration });

// --- the whole -------------------------------------------------------------------------------------------------------

const redis = object({
  external: object({
    url: matching('^((redis|rediss)://.+)?$', 'redis://HOST:PORT or rediss://HOST:PORT'),
    mode: word('single', 'sentinel', 'cluster'),
    nodes: list(matching('^[^:]+:[0-9]+$', 'HOST:PORT')),
    sentinelName: text,
    username: text,
    existingSecret: text,
    urlKey: text,
    passwordKey: text,
    sentinelPasswordKey: text,
    port,
    tls: object({
      enabled: boolean,
      ...{ existingSecret: text, caKey: text, certKey: text, keyKey: text, servername: text },
    }),
  }),
  bundled: object({
    enabled: boolean,
    image: object({ registry: text, repository: { type: 'string', minLength: 1 }, tag, digest }),
    existingSecret: text,
    passwordKey: { type: 'string', minLength: 1 },
    persistence: object({
      enabled: boolean,
      size: quantity,
      storageClass: text,
      accessModes: list(word('ReadWriteOnce', 'ReadWriteOncePod', 'ReadWriteMany')),
    }),
    maxmemory: matching('^[1-9][0-9]*(b|kb?|mb?|gb?)?$', "a size in Redis' words, such as 512mb; 0 would be no bound"),
    extraConfig: text,
    resources,
    uid: whole(1),
    ...scheduling,
  }),
});

const gateway = object({
  ...component,
  config: own(gatewaySchema),
  ...{ port: whole(1024, 65_535), opsPort: whole(1024, 65_535) },
  service,
  autoscaling: object({
    enabled: boolean,
    ...{ minReplicas: whole(1), maxReplicas: whole(1), cpu: whole(0, 1000), connections: whole(0) },
    connectionsMetric: { type: 'string', minLength: 1 },
    behavior: open,
  }),
  preStopSleepSeconds: whole(0, 600),
});

const runner = object({
  ...component,
  config: own(runnerSchema),
  opsPort: whole(1024, 65_535),
  script: object({ path, inline: text, existingConfigMap: text, key: { type: 'string', minLength: 1 } }),
  autoscaling: object({
    enabled: boolean,
    kind: word('keda', 'external'),
    minReplicas: whole(1),
    maxReplicas: whole(1),
    depth: orNull(whole(1)),
    keda: object({
      prometheusUrl: matching('^(https?://.+)?$', 'http://HOST:PORT'),
      authenticationRef: text,
      ...{ pollingInterval: whole(1), cooldownPeriod: whole(0) },
    }),
    external: object({ metric: { type: 'string', minLength: 1 }, selector: textMap }),
    behavior: open,
  }),
  scratchSize: quantity,
});

const monitor = object({
  ...component,
  config: own(monitorSchema),
  opsPort: whole(1024, 65_535),
  preStopSleepSeconds: whole(0, 600),
});

const secretKey = { type: 'string', minLength: 1 };
const agents = object({
  grpc: object({
    enabled: boolean,
    port: whole(1024, 65_535),
    tls: object({ existingSecret: text, certKey: secretKey, keyKey: secretKey, atProxy: boolean }),
    clientCa: object({ existingSecret: text, key: secretKey }),
    tokens: object({ existingSecret: text, key: secretKey }),
    insecure: boolean,
  }),
  service,
  grpcRoute: object(route),
  ingress,
  rabbitmq: object({
    ...{ existingSecret: text, urlKey: secretKey, vhost: secretKey, port },
    ca: object({ existingSecret: text, key: secretKey }),
  }),
});

/** The text of values.schema.json. */
export function valuesSchema() {
  const schema = {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'Values of the carrierarr chart',
    $comment: 'Made by scripts/chart/schema.mjs (npm run docs); do not edit.',
    ...object({
      // Helm's own, where this chart is part of another.
      global: open,
      mode: word('trial', 'production'),
      nameOverride: text,
      fullnameOverride: text,
      commonLabels: textMap,
      commonAnnotations: textMap,
      extraManifests: list({ type: ['object', 'string'] }),
      image: object({
        registry: text,
        tag,
        pullPolicy: word('IfNotPresent', 'Always', 'Never'),
        pullSecrets: list(text),
      }),
      config: settingsOf({ ...gatewaySchema, ...monitorSchema }, (key) => SHARED.has(key)),
      aws: object({ region: matching(String.raw`^([a-z]{2}(-[a-z]+)+-\d{1,2})?$`, 'a region such as eu-central-1') }),
      auth: object({
        ...{ existingSecret: text, tokensKey: { type: 'string', minLength: 1 }, tokenKey: text },
        generateToken: boolean,
        subject: matching(String.raw`^[^\s]{1,128}$`, 'a name without spaces'),
        anonymous: boolean,
        jwt: object({
          jwksUrl: matching('^(https://.+)?$', 'an address that begins with https://'),
          jwksFile: object({ existingConfigMap: text, existingSecret: text, key: { type: 'string', minLength: 1 } }),
          ...{ issuer: text, audience: text, subjectClaim: { type: 'string', minLength: 1 } },
        }),
      }),
      redis,
      gateway,
      runner,
      monitor,
      agents,
      httpRoute: object({ ...route, wsTimeouts: routeTimeouts, timeouts: routeTimeouts }),
      ingress,
      publicPaths: list(object({ path, type: word('Exact', 'Prefix') }, { required: ['path', 'type'] })),
      networkPolicy: object({
        enabled: boolean,
        ...{
          gatewayFrom: rules,
          agentsFrom: rules,
          metricsFrom: rules,
          redisTo: rules,
          rabbitmqTo: rules,
          dnsTo: rules,
        },
        ...{ gatewayEgress: rules, runnerEgress: rules, monitorEgress: rules },
        podIdentity: boolean,
      }),
      metrics: object({
        serviceMonitor: scrape,
        podMonitor: scrape,
        prometheusRule: object({
          ...{ enabled: boolean, labels: textMap, alertLabels: textMap },
          runbookBaseUrl: { type: 'string', minLength: 1 },
          disabled: list(text),
        }),
        dashboards: object({ enabled: boolean, labels: textMap, annotations: textMap }),
      }),
      tests: object({
        enabled: boolean,
        target: { type: 'string', minLength: 1 },
        command: { ...list(text), minItems: 1 },
        timeout: duration,
      }),
    }),
  };
  return `${JSON.stringify(schema, null, 2)}\n`;
}
