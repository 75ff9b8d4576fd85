/**
 * What a gateway can be told, and the combinations that it refuses: above all, to let just anyone in from other machines
 * because nobody thought of authentication (A1).
 */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import {
  ConfigError,
  type ConfigProblem,
  type ConfigValues,
  defineFormat,
  defineSchema,
  formats,
  historySchema,
  isLoopbackHost,
  logSchema,
  printAddress,
  redisSchema,
} from '@carrierarr/platform';
import type { HistoryBounds } from '@carrierarr/store';
import { parseCidr } from './access/client-address.js';
import { normaliseOrigin } from './access/origin.js';

const HOUR_MS = 3_600_000;

const originFormat = defineFormat<string>({
  name: 'web origin',
  allowed:
    'an exact origin such as https://dash.example:8443 (scheme, host, port; no path, no wildcard), or the word null',
  placeholder: 'ORIGIN',
  parse: normaliseOrigin,
  check: (value) => typeof value === 'string' && normaliseOrigin(value) === value,
});

const cidrFormat = defineFormat<string>({
  name: 'network',
  allowed: 'an address or a network such as 10.0.0.0/8 or fd00::/8',
  placeholder: 'NETWORK',
  parse: (text) => (parseCidr(text) === undefined ? undefined : text),
  check: (value) => typeof value === 'string' && parseCidr(value) !== undefined,
});

export const gatewaySchema = defineSchema({
  addr: {
    doc: 'Where to listen. Any address but loopback needs authentication, or --allow-anonymous.',
    format: formats.address,
    default: '127.0.0.1:8090',
  },
  opsAddr: {
    doc: 'Where to serve /ready and /metrics, beside /health and /version, instead of at --addr. They need no authentication.',
    format: formats.address,
    default: null,
    // That variable is for runners and monitors, and set in the image that has all in one.
    env: null,
  },
  gatewayId: {
    doc: 'Name of this gateway in records and logs, unique among gateways. Made from the host name when not set.',
    format: formats.textMatching(/^[A-Za-z0-9._-]{1,128}$/, '1 to 128 letters, digits, dots, dashes or underscores'),
    default: null,
  },
  page: { doc: 'An HTML file to serve at `/`, to everybody.', format: formats.filePath, default: null },

  tokensFile: {
    doc: 'Tokens that let clients in: a `subject token` pair per line, the token itself or `sha256:` and its hash in hex. Read again when it changes.',
    format: formats.filePath,
    default: null,
  },
  jwtJwksUrl: {
    doc: 'Where the keys of JSON Web Tokens are published. Needs --jwt-issuer and --jwt-audience.',
    format: formats.httpUrl,
    default: null,
  },
  jwtJwksFile: {
    doc: 'File with the keys of JSON Web Tokens (a JWKS), instead of a URL. Read again when it changes.',
    format: formats.filePath,
    default: null,
  },
  jwtIssuer: { doc: 'The `iss` that a JSON Web Token must have.', format: formats.text, default: null },
  jwtAudience: { doc: 'The `aud` that a JSON Web Token must have.', format: formats.text, default: null },
  jwtSubjectClaim: {
    doc: 'The claim of a JSON Web Token that names its subject.',
    format: formats.textMatching(/^[^\s\0]{1,128}$/, 'the name of a claim, such as sub or email'),
    default: 'sub',
  },
  allowAnonymous: {
    doc: 'Let everybody in who can reach the address, without any token.',
    format: formats.boolean,
    default: false,
  },
  allowOrigin: {
    doc: 'Web pages of other origins that may connect. `null` stands for pages opened as a file and for sandboxed frames of any site.',
    format: formats.listOf(originFormat),
    default: [],
  },
  trustedProxies: {
    doc: 'Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.',
    format: formats.listOf(cidrFormat),
    default: [],
  },

  messageBytesMax: {
    doc: 'Largest message or request body.',
    format: formats.bytesBetween(1024, 16 * 1024 ** 2),
    default: '64KiB',
  },
  commandsPerSecond: {
    doc: 'Commands per second of one connection, or of one HTTP client, in the long run.',
    format: formats.intBetween(1, 100_000),
    default: 20,
  },
  commandsBurst: {
    doc: 'Commands that may come at once before the rate counts.',
    format: formats.intBetween(1, 1_000_000),
    default: 40,
  },
  messagesPerSecond: {
    doc: 'Messages of any kind per second of one connection, or requests of one HTTP client. Twice as many may come at once.',
    format: formats.intBetween(1, 1_000_000),
    default: 100,
  },
  subscriptionsMax: {
    doc: 'Subscriptions of one connection.',
    format: formats.intBetween(1, 1_000_000),
    default: 1_000,
  },
  connectionsMax: {
    doc: 'Connections of this gateway.',
    format: formats.intBetween(1, 10_000_000),
    default: 20_000,
  },
  connectionsPerAddressMax: {
    doc: 'Connections from one address (IPv6: from one /64). Behind a proxy set --trusted-proxies, or all count as one.',
    format: formats.intBetween(1, 10_000_000),
    default: 2_000,
  },
  unauthenticatedTimeout: {
    doc: 'How long a connection may take to show its token.',
    format: formats.durationBetween(1_000, 600_000),
    default: '10s',
  },
  idleTimeout: {
    doc: 'A connection that is silent this long is closed; it is pinged well before. Keep it within the idle timeout of proxies, commonly 60s.',
    // uWebSockets.js ends the process for 1 to 7 s and above 960 s.
    format: formats.durationBetween(8_000, 960_000),
    default: '60s',
  },
  clientBufferBytes: {
    doc: 'Output waiting in memory for one client. What is more it catches up on from the log.',
    format: formats.bytesBetween(16 * 1024, 64 * 1024 ** 2),
    default: '256KiB',
  },
  ringBytes: {
    doc: 'Recent output kept in memory, of all targets.',
    format: formats.bytesBetween(0, 64 * 1024 ** 3),
    default: '8MiB',
  },

  queueLengthMax: {
    doc: 'Waiting commands of one target. The same for every gateway.',
    format: formats.intBetween(1, 100_000),
    default: 100,
  },
  pendingTargetsMax: {
    doc: 'Targets with waiting commands, in the whole installation. The same for every gateway.',
    format: formats.intBetween(64, 10_000_000),
    default: 100_000,
  },
  idempotencyWindow: {
    doc: 'How long the id that a client gave a command is remembered.',
    format: formats.durationBetween(60_000, 24 * 365 * HOUR_MS),
    default: '24h',
  },

  drainDelay: {
    doc: 'On SIGTERM: how long to be not ready, for proxies to notice, before clients are told to move.',
    format: formats.durationBetween(0, 600_000),
    default: '5s',
  },
  drainSpread: {
    doc: 'On SIGTERM: clients are told to move at random times within this.',
    format: formats.durationBetween(0, 600_000),
    default: '10s',
  },
  shutdownGrace: {
    doc: 'On SIGTERM: the gateway has ended after this. Longer than drain delay and spread together.',
    format: formats.durationBetween(1_000, 3_600_000),
    default: '30s',
  },

  ...historySchema,
  ...redisSchema,
  ...logSchema,
});

export type GatewayConfig = ConfigValues<typeof gatewaySchema>;

/** Settings that have to do with who gets in. */
type AccessConfig = Pick<
  GatewayConfig,
  'addr' | 'tokensFile' | 'jwtJwksUrl' | 'jwtJwksFile' | 'jwtIssuer' | 'jwtAudience' | 'allowAnonymous' | 'allowOrigin'
>;

/** True if clients must show a token. */
export function requiresAuthentication(
  config: Pick<AccessConfig, 'tokensFile' | 'jwtJwksUrl' | 'jwtJwksFile'>,
): boolean {
  return config.tokensFile !== null || config.jwtJwksUrl !== null || config.jwtJwksFile !== null;
}

/** The gateway's name: as configured, else the host's name and something random, for two may share a host. */
export function gatewayIdOf({ gatewayId }: Pick<GatewayConfig, 'gatewayId'>): string {
  if (gatewayId !== null) return gatewayId;
  const host = hostname()
    .replaceAll(/[^A-Za-z0-9._-]/g, '-')
    .slice(0, 100);
  return `${host}-${randomBytes(4).toString('hex')}`;
}

/** The bounds of the output history as the store's scripts need them. */
export function historyBoundsOf(config: ConfigValues<typeof historySchema>): HistoryBounds {
  return {
    entriesMax: config.historyEntries,
    bytesMax: config.historyBytes,
    ageMaxMs: config.historyAge,
    executionsMs: config.historyExecutions,
  };
}

/**
 * Refuses combinations that the schema alone cannot. `program` is as the user typed it. Throws ConfigError with every
 * problem found.
 */
export function validateGatewayConfig(config: GatewayConfig, program = 'carrierarr gateway'): void {
  const problems = [
    ...accessProblems(config),
    ...jwtProblems(config),
    ...addressProblems(config),
    ...boundProblems(config),
  ];
  if (problems.length > 0) throw new ConfigError(program, problems);
}

function accessProblems(config: AccessConfig): ConfigProblem[] {
  const { addr, allowAnonymous } = config;
  if (requiresAuthentication(config)) {
    if (!allowAnonymous) return [];
    const message =
      '`--allow-anonymous` lets everybody in, but tokens are configured too (`--tokens-file` or `--jwt-jwks-*`). Keep one of them.';
    return [{ key: 'allowAnonymous', message }];
  }
  if (allowAnonymous || isLoopbackHost(addr.host)) return [];
  const everywhere = addr.host === '' ? ' (which means every address of this machine)' : '';
  const message =
    `\`-addr ${printAddress(addr)}\`${everywhere} can be reached from other machines, and no authentication is configured: ` +
    'anybody there could run commands on your workers. Do one of these: ' +
    'give clients tokens with `--tokens-file FILE`; ' +
    'accept JSON Web Tokens with `--jwt-jwks-url URL` (or `--jwt-jwks-file`), `--jwt-issuer` and `--jwt-audience`; ' +
    `listen for this machine only with \`-addr 127.0.0.1:${addr.port}\`; ` +
    'or, if it really is for everybody, say `--allow-anonymous`.';
  return [{ key: 'addr', message }];
}

function jwtProblems({ jwtJwksUrl, jwtJwksFile, jwtIssuer, jwtAudience }: AccessConfig): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  const keys = jwtJwksUrl ?? jwtJwksFile;
  if (jwtJwksUrl !== null && jwtJwksFile !== null) {
    problems.push({
      key: 'jwtJwksFile',
      message: 'Both `--jwt-jwks-url` and `--jwt-jwks-file` are set. Keep one of them.',
    });
  }
  // Whoever can change the keys on their way can make tokens.
  if (jwtJwksUrl !== null) {
    const url = new URL(jwtJwksUrl);
    if (url.protocol !== 'https:' && !isLoopbackHost(url.hostname.replace(/^\[|\]$/g, ''))) {
      problems.push({
        key: 'jwtJwksUrl',
        message: `Expected \`--jwt-jwks-url\` to begin with https://, got \`${url.origin}\`.`,
      });
    }
  }
  for (const [key, flag, value, claim] of [
    ['jwtIssuer', '--jwt-issuer', jwtIssuer, 'of any issuer'],
    ['jwtAudience', '--jwt-audience', jwtAudience, 'meant for other programs'],
  ] as const) {
    if (keys !== null && value === null) {
      problems.push({ key, message: `\`${flag}\` is missing: without it tokens ${claim} would be accepted.` });
    }
    if (keys === null && value !== null) {
      problems.push({
        key,
        message: `\`${flag}\` is set, but no keys: add \`--jwt-jwks-url\` or \`--jwt-jwks-file\`.`,
      });
    }
  }
  return problems;
}

function addressProblems({ addr, opsAddr }: Pick<GatewayConfig, 'addr' | 'opsAddr'>): ConfigProblem[] {
  if (opsAddr === null || opsAddr.port === 0 || opsAddr.port !== addr.port) return [];
  if (opsAddr.host !== addr.host && opsAddr.host !== '' && addr.host !== '') return [];
  const message = `\`-addr\` and \`--ops-addr\` both have port ${addr.port}. Give \`--ops-addr\` another one, or leave it out to serve all at \`-addr\`.`;
  return [{ key: 'opsAddr', message }];
}

function boundProblems(config: GatewayConfig): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  if (config.drainDelay + config.drainSpread >= config.shutdownGrace) {
    const sum = (config.drainDelay + config.drainSpread) / 1000;
    const message = `Expected \`--shutdown-grace\` to be longer than \`--drain-delay\` and \`--drain-spread\` together (${sum}s), got ${config.shutdownGrace / 1000}s.`;
    problems.push({ key: 'shutdownGrace', message });
  }
  if (config.unauthenticatedTimeout > config.idleTimeout) {
    const message = `Expected \`--unauthenticated-timeout\` to be at most \`--idle-timeout\` (${config.idleTimeout / 1000}s), got ${config.unauthenticatedTimeout / 1000}s.`;
    problems.push({ key: 'unauthenticatedTimeout', message });
  }
  return problems;
}
