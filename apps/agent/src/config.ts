/** Settings of an agent. Durations are in ms and sizes in bytes once read; `--help` shows their units. */
import { redactionSchema } from '@carrierarr/execution/secrets';
import {
  type Address,
  ConfigError,
  type ConfigValues,
  defineFormat,
  defineSchema,
  formats,
  isLoopbackHost,
  logSchema,
  parseAddress,
  printAddress,
} from '@carrierarr/platform';
import { parseServiceSpec, printServiceSpec, type ServiceSpec } from './status/service-spec.js';

const KiB = 1024;
const MiB = 1024 * KiB;
const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;
const GRPC_PORT = 50_051;

/** `host:port`; a host alone has the port that control planes listen on by default. */
const controlPlaneFormat = defineFormat<Address>({
  name: 'control plane',
  allowed: 'a host and port such as control.example:50051 (without a port it is 50051)',
  placeholder: 'HOST:PORT',
  parse: (word) => {
    const address = parseAddress(word) ?? parseAddress(`${word}:${GRPC_PORT}`);
    return address && address.host !== '' && address.port !== 0 ? address : undefined;
  },
  check: (value) => typeof value === 'object' && value !== null && 'host' in value && 'port' in value,
  print: printAddress,
});

const serviceFormat = defineFormat<ServiceSpec>({
  name: 'service check',
  allowed:
    'a check such as k3s=systemd:k3s, web=http://127.0.0.1/health, db=tcp:127.0.0.1:5432 or nebula=interface:nebula1',
  placeholder: 'NAME=CHECK',
  parse: parseServiceSpec,
  check: (value) => typeof value === 'object' && value !== null && 'name' in value && 'kind' in value,
  print: printServiceSpec,
});

const programWords = formats.textMatching(/^\S+(?: \S+)*$/, 'a program and its arguments with single spaces between');

export const agentSchema = defineSchema({
  controlPlane: {
    doc: 'Where control planes serve agents over gRPC. Of several, separated by commas, one is used at a time.',
    format: formats.listOf(controlPlaneFormat),
    default: [],
    env: 'CONTROL_PLANE_ADDR',
  },
  type: {
    env: 'CARRIERARR_NODE_TYPE',
    doc: 'What kind of node this is.',
    format: ['gpu-worker', 'cpu-worker', 'lighthouse'],
    default: null,
    allowed: 'one of gpu-worker, cpu-worker, lighthouse (by default gpu-worker if there is a GPU, else cpu-worker)',
  },
  healthPort: { doc: 'Port of /health, /ready and /metrics.', format: formats.port, default: 8080 },
  healthHost: {
    doc: 'Address of /health, /ready and /metrics; 0.0.0.0 for every interface.',
    format: formats.text,
    default: '127.0.0.1',
  },
  nodeId: {
    doc: 'Name of this node; by default the host name.',
    format: formats.textMatching(/^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}$/, 'a name such as gpu-1'),
    default: null,
  },
  instanceId: {
    doc: "Instance id; by default that of the cloud's metadata, else the host name.",
    format: formats.textMatching(/^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}$/, 'an id such as i-0123456789abcdef0'),
    default: null,
  },
  nebulaIp: { doc: 'Address in the Nebula network; by default that of nebula1.', format: formats.text, default: null },
  publicIp: { doc: 'Public address; by default that of the metadata.', format: formats.text, default: null },
  region: {
    doc: 'Region; by default that of the metadata.',
    format: formats.text,
    default: null,
    env: 'CARRIERARR_AGENT_REGION',
  },
  az: { doc: 'Availability zone; by default that of the metadata.', format: formats.text, default: null },
  labels: { doc: 'Labels of the node.', format: formats.textMap, default: {} },

  rabbitmqUrl: {
    doc: 'RabbitMQ to register at and send heartbeats to. It is enough without a control plane, but brings no commands.',
    format: formats.urlWith(['amqp', 'amqps'], 'amqps://agent:secret@rabbit.example'),
    default: null,
    env: 'RABBITMQ_URL',
    secret: true,
  },
  rabbitmqVhost: {
    doc: 'Virtual host, if the URL names none.',
    format: formats.text,
    default: 'agents',
    env: 'CARRIERARR_RABBITMQ_VHOST',
  },

  tls: {
    env: 'CARRIERARR_AGENT_TLS',
    doc: 'Speak TLS with the control plane, trusting the certificate authorities of Node. Implied by --tls-ca.',
    format: formats.boolean,
    default: false,
  },
  tlsCa: {
    env: 'CARRIERARR_AGENT_TLS_CA',
    doc: 'Certificate authorities (PEM) to trust instead. Read anew at each connection.',
    format: formats.filePath,
    default: null,
  },
  tlsCert: {
    doc: 'Client certificate (PEM). Read anew at each connection.',
    format: formats.filePath,
    default: null,
    env: 'CARRIERARR_AGENT_TLS_CERT',
  },
  tlsKey: {
    doc: 'Key of the client certificate (PEM).',
    format: formats.filePath,
    default: null,
    env: 'CARRIERARR_AGENT_TLS_KEY',
  },
  tlsServername: {
    env: 'CARRIERARR_AGENT_TLS_SERVERNAME',
    doc: "Name expected in the control plane's certificate, if not its host.",
    format: formats.text,
    default: null,
  },
  token: {
    doc: 'Token to join with.',
    format: formats.token,
    default: null,
    secret: true,
    env: 'CARRIERARR_AGENT_TOKEN',
  },
  insecureToken: {
    env: 'CARRIERARR_AGENT_INSECURE_TOKEN',
    doc: 'Send the token though the connection is not encrypted and leaves this machine.',
    format: formats.boolean,
    default: false,
  },

  services: {
    doc:
      'Services to watch. By default nebula, k3s, ollama and liqo, of which those that are not installed do not count; ' +
      'every service named here must run for the node to be healthy.',
    format: formats.listOf(serviceFormat),
    default: null,
  },
  ollamaUrl: {
    doc: 'Ollama on this machine.',
    format: formats.httpUrl,
    default: 'http://127.0.0.1:11434',
  },
  metadata: {
    doc: "Where to ask for the instance's identity. auto: ECS if its variable is set, else EC2.",
    format: ['auto', 'ec2', 'ecs', 'off'],
    default: 'auto',
  },
  metadataUrl: {
    doc: 'EC2 instance metadata service.',
    format: formats.httpUrl,
    default: 'http://169.254.169.254',
  },
  nvidiaSmi: { doc: 'Program that tells about GPUs.', format: formats.text, default: 'nvidia-smi' },

  allowExec: {
    doc:
      'Programs that `exec` may run, by name or absolute path, separated by commas; * for all. Empty: none. A command ' +
      'line for a shell needs `sh` or *.',
    format: formats.list,
    default: [],
  },
  allowRestartService: {
    doc: 'systemd units that `restart-service` may restart, separated by commas. Empty: none.',
    format: formats.listOf(formats.textMatching(/^[A-Za-z0-9:_.@][A-Za-z0-9:_.@-]*$/, 'the name of a systemd unit')),
    default: [],
  },
  shutdownCommand: {
    doc: 'Powers the machine off. `exit`: the agent only ends itself, which ends the task of a Fargate sidecar.',
    format: programWords,
    default: 'systemctl poweroff',
  },
  rebootCommand: {
    doc: 'Restarts the machine. `exit`: the agent only ends itself.',
    format: programWords,
    default: 'systemctl reboot',
  },
  commandsMax: { doc: 'Commands at once; more are refused.', format: formats.intBetween(1, 1000), default: 8 },
  maxLineBytes: {
    env: 'CARRIERARR_AGENT_MAX_LINE_BYTES',
    doc: 'Longer lines of output are cut, with a mark.',
    format: formats.bytesBetween(KiB, 60 * KiB),
    default: '60KiB',
  },
  outputBytesMax: {
    env: 'CARRIERARR_AGENT_OUTPUT_BYTES_MAX',
    doc: 'Output of one command beyond this is only counted, if the control plane sets no bound.',
    format: formats.bytesBetween(KiB, 1024 * MiB),
    default: '64MiB',
  },
  ...redactionSchema,
  resultOutputBytes: {
    doc: 'Of each of standard output and error, that much goes to a control plane which takes no lines.',
    format: formats.bytesBetween(KiB, MiB),
    default: '256KiB',
  },
  spoolBytes: {
    env: 'CARRIERARR_AGENT_SPOOL_BYTES',
    doc: 'Output of all commands that is held until the control plane has it; above it programs have to wait.',
    format: formats.bytesBetween(256 * KiB, 1024 * MiB),
    default: '4MiB',
  },
  killGrace: {
    env: 'CARRIERARR_AGENT_KILL_GRACE',
    doc: 'Between SIGTERM and SIGKILL, if the control plane does not say.',
    format: formats.durationBetween(0, 10 * minute),
    default: '10s',
  },

  stateDir: {
    env: 'CARRIERARR_AGENT_STATE_DIR',
    doc: 'Folder for what must outlast the agent: commands seen, results not delivered yet, and when the node was last busy.',
    format: formats.filePath,
    default: '/var/lib/carrierarr-agent',
  },
  keptResults: {
    doc: 'Results kept until they are delivered; the oldest go first.',
    format: formats.intBetween(1, 100_000),
    default: 200,
  },
  keptResultBytes: {
    doc: 'The same in bytes.',
    format: formats.bytesBetween(64 * KiB, 1024 * MiB),
    default: '16MiB',
  },
  statusInterval: {
    doc: 'Between two statuses, until a control plane sets it.',
    format: formats.durationBetween(second, hour),
    default: '30s',
  },
  idleShutdown: {
    doc: 'Power the machine off after being idle for so long, also without any control plane. 0s: never.',
    format: formats.durationBetween(0, 365 * day),
    default: '0s',
  },
  idleGpuPercent: {
    doc: 'A GPU that is used more than this makes the node busy. 100: GPUs do not count.',
    format: formats.intBetween(0, 100),
    default: 5,
  },
  idleConnections: {
    doc: 'An open connection to Ollama makes the node busy, whether or not a request is under way on it.',
    format: formats.boolean,
    default: true,
  },
  ...logSchema,
});
export type AgentConfig = ConfigValues<typeof agentSchema>;

/** Throws ConfigError for what no single setting can tell. */
export function validateAgentConfig(config: AgentConfig, program = 'carrierarr-agent'): void {
  const problems: { key: string | null; message: string }[] = [];
  if (config.controlPlane.length === 0 && config.rabbitmqUrl === null && config.idleShutdown === 0) {
    problems.push({
      key: 'controlPlane',
      message:
        'Expected at least one of `--control-plane` (CONTROL_PLANE_ADDR), `--rabbitmq-url` (RABBITMQ_URL) and ' +
        '`--idle-shutdown`, got none: there would be nothing to do.',
    });
  }
  if ((config.tlsCert === null) !== (config.tlsKey === null)) {
    problems.push({ key: 'tlsCert', message: 'Expected `--tls-cert` and `--tls-key` together, got only one of them.' });
  }
  const isPlain = !usesTls(config);
  const remote = config.controlPlane.find(({ host }) => !isLoopbackHost(host));
  if (config.token !== null && isPlain && remote !== undefined && !config.insecureToken) {
    problems.push({
      key: 'token',
      message:
        `Expected TLS for a token that is sent to ${printAddress(remote)}: anybody on the way could read it. ` +
        'Set `--tls` or `--tls-ca`, or say `--insecure-token`.',
    });
  }
  if (problems.length > 0) throw new ConfigError(program, problems);
}

export function usesTls(config: Pick<AgentConfig, 'tls' | 'tlsCa' | 'tlsCert'>): boolean {
  return config.tls || config.tlsCa !== null || config.tlsCert !== null;
}
