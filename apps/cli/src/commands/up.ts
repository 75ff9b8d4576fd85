/**
 * `carrierarr up`: everything on one machine, in one process. A gateway, a monitor, a runner and a private Redis unless
 * another is named.
 */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createGateway, gatewaySchema, validateGatewayConfig } from '@carrierarr/gateway';
import { createMonitor, validateAgentsConfig, watchSchema } from '@carrierarr/monitor';
import {
  type Address,
  type Component,
  type ConfigValues,
  createLogger,
  createMetrics,
  defineSchema,
  describeRedis,
  type EmbeddedRedis,
  loadConfig,
  type Logger,
  printableConfig,
  printAddress,
  Readiness,
  redisSchema,
  redisSettings,
  type RedisSettings,
  startEmbeddedRedis,
  systemClock,
  version,
} from '@carrierarr/platform';
import { createRunner, executionSchema } from '@carrierarr/runner';
import { clientSchema } from '../client/settings.js';
import { EXIT } from '../exit.js';
import type { Host, Verb } from '../host.js';
import { later, serve } from '../serve.js';
import { serverEnvNames } from './server-env.js';
import { upOwnSchema } from './up-schema.js';

export const upSchema = defineSchema({ ...executionSchema, ...watchSchema, ...gatewaySchema, ...upOwnSchema });
type Config = ConfigValues<typeof upSchema>;

const PROGRAM = 'carrierarr up';
/** How long a monitor may take to stop, ms. */
const MONITOR_STOP_MS = 15_000;
const PAGE = join('examples', 'test-client.html');

export const up: Verb = {
  async run(argv, host, summary) {
    const env = host.env;
    const loaded = loadConfig({ program: PROGRAM, summary, schema: upSchema, argv, env, knownEnv: serverEnvNames() });
    if (loaded.kind === 'help') {
      host.stdout.write(loaded.text);
      return EXIT.done;
    }
    const config = loaded.values;
    // The URL of the private Redis is known only once it runs; whatever else is wrong is better said now.
    validateGatewayConfig({ ...config, redisUrl: config.redisUrl ?? redisSchema.redisUrl.default }, PROGRAM);
    validateAgentsConfig(config, PROGRAM);
    if (!isPrivate(config)) settingsOf(config);
    const logger = createLogger({ program: 'up', level: config.logLevel, format: config.logFormat });
    logger.info({ version: version(), config: printableConfig(config, upSchema) }, 'starting');
    return serve({ components: (fail) => components(config, logger, host, fail), logger, host });
  },
};

function isPrivate({ redisUrl, redisNodes }: Config): boolean {
  return redisUrl === null && redisNodes.length === 0;
}

function settingsOf(config: Config, privateUrl?: string): RedisSettings {
  return redisSettings({ ...config, redisUrl: privateUrl ?? config.redisUrl ?? redisSchema.redisUrl.default }, PROGRAM);
}

function components(config: Config, logger: Logger, host: Host, onFatal: (error: Error) => void): Component[] {
  const metrics = createMetrics({ program: 'up', version: version() });
  const readiness = new Readiness();
  const shared = { metrics, readiness, clock: systemClock };
  const folder = join(config.stateDir ?? stateFolder(host.env), 'redis');
  let embedded: EmbeddedRedis | undefined;
  let address: Address | undefined;
  /** Where agents are listened for; undefined if they are not. */
  let agentsAddress = (): Address | undefined => undefined;
  const redisUrl = () => embedded?.url ?? config.redisUrl ?? redisSchema.redisUrl.default;

  const redis: Component = {
    name: 'redis',
    stopDeadlineMs: 15_000,
    async start() {
      embedded = await startEmbeddedRedis({ dir: folder, logger: logger.child({ program: 'redis' }) });
    },
    stop: () => embedded?.stop(),
  };
  const runner = later('runner', config.shutdownGrace + config.killGrace + 5000, () =>
    createRunner({
      ...shared,
      config,
      redisSettings: settingsOf(config, redisUrl()),
      logger: logger.child({ program: 'runner' }),
      env: host.env,
      configNames: serverEnvNames(),
      onFatal,
    }),
  );
  const gateway = later('gateway', config.shutdownGrace + 2000, () => {
    const built = createGateway({
      ...shared,
      config: { ...config, page: config.page ?? examplePage(), redisUrl: redisUrl() },
      redisSettings: settingsOf(config, redisUrl()),
      logger: logger.child({ program: 'gateway' }),
      commandsEnabled: config.script !== null,
    });
    return {
      name: built.name,
      async start() {
        await built.start();
        address = built.address;
      },
      stop: () => built.stop(),
    };
  });
  const monitor = later('monitor', MONITOR_STOP_MS, () => {
    const built = createMonitor({
      ...shared,
      config,
      redisSettings: settingsOf(config, redisUrl()),
      logger: logger.child({ program: 'monitor' }),
    });
    agentsAddress = () => built.agentsAddress;
    return built;
  });
  const announcement: Component = {
    name: 'announcement',
    start() {
      const data = embedded === undefined ? describeRedis(settingsOf(config)) : folder;
      if (address !== undefined)
        host.stdout.write(announce(config, { address, agents: agentsAddress() }, data, host.command));
    },
  };
  return [...(isPrivate(config) ? [redis] : []), runner, monitor, gateway, announcement];
}

interface Listening {
  readonly address: Address;
  readonly agents: Address | undefined;
}

function announce({ script }: Config, { address, agents }: Listening, data: string, command: string): string {
  const { host, port } = address;
  const name = host === '' || host === '0.0.0.0' ? 'localhost' : host.includes(':') ? `[${host}]` : host;
  const url = `http://${name}:${port}`;
  const flag = url === clientSchema.url.default ? '' : ` --url ${url}`;
  const next =
    script === null
      ? 'There is no script yet, so only agents carry out commands: start it with `-script FILE`, for example\n' +
        `  ${command} up -script scripts/mock-worker.sh\n`
      : 'Open the page, or try in another terminal:\n' +
        `  ${command} run${flag} --wait worker-1 start\n` +
        `  ${command} logs${flag} -f worker-1\n`;
  const where = `${script === null ? 'no script' : `script ${script}`}, data in ${data}`;
  const agentsText =
    agents === undefined
      ? ''
      : `Agents connect to ${printAddress(agents)}:\n  ${command} agent -control-plane ${printAddress(agents)} --state-dir "$(mktemp -d)"\n`;
  return `carrierarr is up: ${url}/  (${where})\n${next}${agentsText}Ctrl-C ends it.\n`;
}

/** `$XDG_STATE_HOME/carrierarr`, by default below `~/.local/state`, on macOS too. */
function stateFolder(env: NodeJS.ProcessEnv): string {
  return join(env['XDG_STATE_HOME'] || join(homedir(), '.local', 'state'), 'carrierarr');
}

/** The example page, above this file: in a checkout, and in a package that keeps the layout of one. */
function examplePage(): string | null {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const path = join(folder, PAGE);
    if (existsSync(path)) return path;
    if (folder === dirname(folder)) return null;
  }
}
