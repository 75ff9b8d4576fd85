/** How a monitor serves agents over gRPC, and the combinations that it refuses: above all, to let just any machine in (A1). */
import {
  type Address,
  ConfigError,
  type ConfigProblem,
  type ConfigValues,
  defineFormat,
  defineSchema,
  formats,
  isLoopbackHost,
  parseAddress,
  printAddress,
  printDuration,
} from '@carrierarr/platform';
import type { NodesConfig } from './nodes/config.js';

const OFF = 'off';

const addressOrOff = defineFormat<Address | typeof OFF>({
  name: 'address to listen on, or off',
  allowed: 'an address such as 127.0.0.1:50051 or, for every interface, :50051; or `off`',
  placeholder: 'HOST:PORT',
  parse: (text) => (text === '' || text === OFF ? OFF : parseAddress(text)),
  check: (value) => value === OFF || formatsAddress(value),
  print: (value) => (value === OFF ? OFF : printAddress(value)),
});

function formatsAddress(value: unknown): boolean {
  const { host, port } = (value ?? {}) as Partial<Address>;
  return (
    typeof host === 'string' && typeof port === 'number' && parseAddress(printAddress({ host, port })) !== undefined
  );
}

/** How agents are served. `carrierarr up` has it too. */
export const agentsSchema = defineSchema({
  grpcAddr: {
    doc: 'Where to listen for agents (gRPC); `off` for nowhere. Any address but loopback needs TLS and either --grpc-tls-client-ca or --agent-tokens-file, or --grpc-insecure.',
    format: addressOrOff,
    default: '127.0.0.1:50051',
  },
  grpcInsecure: {
    doc: 'Let every machine that can reach the address be an agent, or send tokens without TLS.',
    format: formats.boolean,
    default: false,
  },
  grpcTlsCert: {
    doc: 'Certificate chain for agents (PEM). It and the other TLS files are read again when they change; streams stay.',
    format: formats.filePath,
    default: null,
  },
  grpcTlsKey: { doc: 'Private key of that certificate (PEM).', format: formats.filePath, default: null },
  grpcTlsClientCa: {
    doc: 'Certificate authority of agents (PEM): who shows no certificate of it is refused (mutual TLS).',
    format: formats.filePath,
    default: null,
  },
  agentTokensFile: {
    doc: 'Tokens that let agents in (`authorization: Bearer`): a `subject token` pair per line, as in --tokens-file. Read again when it changes; streams of a token that is gone end.',
    format: formats.filePath,
    default: null,
  },
  agentHeartbeatInterval: {
    doc: 'How often agents are to send a heartbeat, at most half of --stale-timeout. By default 30s, or that half.',
    format: formats.durationBetween(1_000, 3_600_000),
    default: null,
  },
  agentStatusInterval: {
    doc: 'How often agents are to send their status, at most half of --stale-timeout. By default 30s, or that half.',
    format: formats.durationBetween(1_000, 3_600_000),
    default: null,
  },
  grpcKeepalive: {
    doc: 'An agent from which nothing came for this long is pinged.',
    format: formats.durationBetween(100, 600_000),
    default: '15s',
  },
  grpcKeepaliveTimeout: {
    doc: 'An agent that does not answer a ping within this is held for gone, and its stream ends.',
    format: formats.durationBetween(100, 600_000),
    default: '8s',
  },
  grpcMessageBytesMax: {
    doc: 'Largest message on the stream of an agent. Registrations may have 512KiB, and questions without a token 8KiB.',
    format: formats.bytesBetween(128 * 1024, 64 * 1024 ** 2),
    default: '4MiB',
  },
  agentStreamsMax: {
    doc: 'Streams of agents on this monitor. There may be twice as many connections, and 16 more.',
    format: formats.intBetween(1, 1_000_000),
    default: 20_000,
  },
  agentStreamsPerAddressMax: {
    doc: 'Streams from one address (IPv6: from one /64). There may be twice as many connections from it, and 16 more. Behind a proxy all agents may count as one.',
    format: formats.intBetween(1, 1_000_000),
    default: 2_000,
  },
  agentMessagesPerSecond: {
    doc: 'Messages per second of one stream, output aside. Twice as many may come at once; beyond that the stream ends.',
    format: formats.intBetween(1, 100_000),
    default: 200,
  },
  agentBytesPerSecond: {
    doc: 'Bytes per second of one stream. Twice as many may come at once. Output beyond that waits; for anything else the stream ends.',
    format: formats.bytesBetween(64 * 1024, 1024 ** 3),
    default: '16MiB',
  },
  agentLogLinesPerSecond: {
    doc: 'Lines per second that one agent may log of itself. Five times as many may come at once; those beyond that are dropped and counted.',
    format: formats.intBetween(1, 100_000),
    default: 50,
  },
  agentCallsPerSecond: {
    doc: 'Registrations, heartbeats and questions per second from one address. Twenty times as many may come at once.',
    format: formats.intBetween(1, 100_000),
    default: 50,
  },
});

/** The settings that serving agents reads. */
export type AgentsConfig = ConfigValues<typeof agentsSchema>;

type IntervalsConfig = Pick<AgentsConfig, 'agentHeartbeatInterval' | 'agentStatusInterval'> &
  Pick<NodesConfig, 'staleTimeout'>;

/** How often agents are to say something where nothing else is set, ms. */
const INTERVAL_MS = 30_000;

/** How often agents are to send heartbeat and status, ms. */
export function reportIntervalsOf({ agentHeartbeatInterval, agentStatusInterval, staleTimeout }: IntervalsConfig) {
  const usualMs = Math.min(INTERVAL_MS, Math.floor(staleTimeout / 2));
  return { heartbeatMs: agentHeartbeatInterval ?? usualMs, statusMs: agentStatusInterval ?? usualMs };
}

type AccessConfig = Pick<
  AgentsConfig,
  'grpcAddr' | 'grpcInsecure' | 'grpcTlsCert' | 'grpcTlsKey' | 'grpcTlsClientCa' | 'agentTokensFile'
>;

/**
 * Refuses combinations that the schema alone cannot. `program` is as the user typed it. Throws ConfigError with every
 * problem found.
 */
export function validateAgentsConfig(config: AccessConfig & IntervalsConfig, program = 'carrierarr monitor'): void {
  const problems = [...tlsProblems(config), ...accessProblems(config), ...intervalProblems(config)];
  if (problems.length > 0) throw new ConfigError(program, problems);
}

function tlsProblems({ grpcTlsCert, grpcTlsKey, grpcTlsClientCa }: AccessConfig): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  if ((grpcTlsCert === null) !== (grpcTlsKey === null)) {
    const [given, missing] =
      grpcTlsCert === null ? ['--grpc-tls-key', '--grpc-tls-cert'] : ['--grpc-tls-cert', '--grpc-tls-key'];
    problems.push({
      key: grpcTlsCert === null ? 'grpcTlsCert' : 'grpcTlsKey',
      message: `\`${given}\` is set, but not \`${missing}\`: TLS needs both.`,
    });
  }
  if (grpcTlsClientCa !== null && grpcTlsCert === null) {
    const message =
      '`--grpc-tls-client-ca` is set, but agents are served without TLS: add `--grpc-tls-cert` and `--grpc-tls-key`.';
    problems.push({ key: 'grpcTlsClientCa', message });
  }
  return problems;
}

function accessProblems(config: AccessConfig): ConfigProblem[] {
  const { grpcAddr, grpcInsecure, grpcTlsCert, grpcTlsClientCa, agentTokensFile } = config;
  const isAuthenticated = grpcTlsClientCa !== null || agentTokensFile !== null;
  const isSafe = grpcTlsCert !== null && isAuthenticated;
  if (isSafe) {
    if (!grpcInsecure) return [];
    const message =
      '`--grpc-insecure` lets every machine in, but TLS and a way to tell agents apart are configured too. Keep one of them.';
    return [{ key: 'grpcInsecure', message }];
  }
  if (grpcAddr === OFF || grpcInsecure || isLoopbackHost(grpcAddr.host)) return [];
  const everywhere = grpcAddr.host === '' ? ' (which means every address of this machine)' : '';
  const lack =
    grpcTlsCert === null
      ? 'without TLS: anybody on the way could read and change what agents and monitor say'
      : 'without a way to tell agents from others: anybody there could pass for a worker and get its commands';
  const message =
    `\`-grpc-addr ${printAddress(grpcAddr)}\`${everywhere} can be reached from other machines, ${lack}. Do one of these: ` +
    'set `--grpc-tls-cert` and `--grpc-tls-key`, and let agents in by certificate with `--grpc-tls-client-ca FILE` or by token ' +
    `with \`--agent-tokens-file FILE\`; listen for this machine only with \`-grpc-addr 127.0.0.1:${grpcAddr.port}\`; ` +
    'turn it off with `-grpc-addr off`; or, if every machine there may be an agent (as in a private network), say `--grpc-insecure`.';
  return [{ key: 'grpcAddr', message }];
}

/** Whoever is to speak less often than silence is taken for a failure would be stale, and dead, while all is well. */
function intervalProblems(config: AccessConfig & IntervalsConfig): ConfigProblem[] {
  if (config.grpcAddr === OFF) return [];
  const mostMs = Math.floor(config.staleTimeout / 2);
  const flags = {
    agentHeartbeatInterval: '--agent-heartbeat-interval',
    agentStatusInterval: '--agent-status-interval',
  };
  return Object.entries(flags).flatMap(([name, flag]) => {
    const key = name as keyof typeof flags;
    const askedMs = config[key];
    if (askedMs === null || askedMs <= mostMs) return [];
    const message =
      `Expected \`${flag}\` to be at most half of \`--stale-timeout\` (${printDuration(config.staleTimeout)}), got ` +
      `\`${printDuration(askedMs)}\`: agents would count as stale between two reports. Set it to ${printDuration(mostMs)} or ` +
      'less, or raise `--stale-timeout` and `--dead-threshold`.';
    return [{ key, message }];
  });
}
