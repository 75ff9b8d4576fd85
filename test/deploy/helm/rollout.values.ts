/** Values of the release that the test of rollouts makes, and what it needs beside it. */
import { clusterImages } from '../../support/deploy-tools.js';

/** The machine with an agent. */
export const AGENT = 'agent-1';
/** Where pods have the witness. */
export const WITNESS = '/opt/witness/witness.sh';
/** Tokens of agents, and that of the one. */
export const AGENTS_SECRET = 'agent-tokens';

const uid = 10001;
const script = { name: 'script', configMap: { name: 'witness', defaultMode: 0o555 } };
const volumes = [
  { name: 'witness', persistentVolumeClaim: { claimName: 'witness' } },
  { name: 'last', emptyDir: {} },
];
/** Scripts testify in one journal; which of them runs now is known to each pod alone, as process ids mean nothing in another. */
const mounts = [
  { name: 'witness', mountPath: '/witness' },
  { name: 'last', mountPath: '/witness/last' },
];
const env = [{ name: 'WITNESS_DIR', value: '/witness' }];
/** They share a volume, which is one node's unless a class is named whose volumes several may share. */
const label = { witness: 'shared' };
const onOneNode = {
  podAffinity: {
    requiredDuringSchedulingIgnoredDuringExecution: [
      { topologyKey: 'kubernetes.io/hostname', labelSelector: { matchLabels: label } },
    ],
  },
};
/** The chart's own where there is none. */
const affinityOf = (sharedClass: string | undefined) => (sharedClass === undefined ? onOneNode : {});
/** For small nodes. */
const resources = { requests: { cpu: '50m' } };

const image = (role: string, tag: string) =>
  `${clusterImages === 'loaded' ? '' : `${clusterImages}/`}carrierarr-${role}:${tag}`;

const claim = (sharedClass: string | undefined) => ({
  apiVersion: 'v1',
  kind: 'PersistentVolumeClaim',
  metadata: { name: 'witness' },
  spec: {
    accessModes: [sharedClass === undefined ? 'ReadWriteOnce' : 'ReadWriteMany'],
    ...(sharedClass !== undefined && { storageClassName: sharedClass }),
    resources: { requests: { storage: '64Mi' } },
  },
});

/** A worker, in a pod that may do as little as the chart's. */
const agent = (tag: string, affinity: object) => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: AGENT },
  spec: {
    selector: { matchLabels: { app: AGENT } },
    template: {
      metadata: { labels: { app: AGENT, ...label } },
      spec: {
        automountServiceAccountToken: false,
        enableServiceLinks: false,
        affinity,
        securityContext: {
          ...{ runAsNonRoot: true, runAsUser: uid, runAsGroup: uid, fsGroup: uid },
          seccompProfile: { type: 'RuntimeDefault' },
        },
        containers: [
          {
            name: 'agent',
            image: image('agent', tag),
            args: [
              ...['-control-plane', 'main-carrierarr-agents:50051', '--token-file', '/etc/agent/token'],
              ...['--insecure-token', '--node-id', AGENT, '--metadata', 'off', '--allow-exec', WITNESS],
            ],
            env,
            securityContext: {
              ...{ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true },
              capabilities: { drop: ['ALL'] },
            },
            volumeMounts: [
              ...mounts,
              { name: 'script', mountPath: '/opt/witness', readOnly: true },
              { name: 'token', mountPath: '/etc/agent', readOnly: true },
              { name: 'state', mountPath: '/var/lib/carrierarr-agent' },
              { name: 'tmp', mountPath: '/tmp' },
            ],
          },
        ],
        volumes: [
          ...volumes,
          script,
          { name: 'token', secret: { secretName: AGENTS_SECRET, items: [{ key: 'token', path: 'token' }] } },
          { name: 'state', emptyDir: {} },
          { name: 'tmp', emptyDir: {} },
        ],
      },
    },
  },
});

export interface RolloutOptions {
  /** The version of the images. */
  tag: string;
  /** Without one nothing serves agents, and nothing is said of them: an older chart may not know them. */
  hasAgent: boolean;
  /** Storage class of volumes that pods on several nodes may share; without it all that share one are on one node. */
  sharedClass?: string | undefined;
}

export const rolloutValues = ({ tag, hasAgent, sharedClass }: RolloutOptions) => ({
  image: { registry: clusterImages === 'loaded' ? '' : clusterImages, tag },
  gateway: { service: { type: 'NodePort' }, resources },
  runner: {
    script: { existingConfigMap: 'witness', key: 'witness.sh' },
    config: { commandTimeoutMax: '2m' },
    podLabels: label,
    affinity: affinityOf(sharedClass),
    extraEnv: env,
    extraVolumes: volumes,
    extraVolumeMounts: mounts,
    resources,
  },
  monitor: { resources },
  redis: { bundled: { resources, ...(sharedClass !== undefined && { persistence: { storageClass: sharedClass } }) } },
  ...(hasAgent && {
    agents: { grpc: { enabled: true, tls: { atProxy: true }, tokens: { existingSecret: AGENTS_SECRET } } },
  }),
  // The witness knows no `status`.
  tests: { command: ['exit', 'helm-test', '0'] },
  extraManifests: [claim(sharedClass), ...(hasAgent ? [agent(tag, affinityOf(sharedClass))] : [])],
});
