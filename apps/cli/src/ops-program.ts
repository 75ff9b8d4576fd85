/** What programs have in common that serve nothing over HTTP but probes and metrics: `runner` and `monitor`. */
import {
  type Clock,
  type Component,
  type ConfigValues,
  createLogger,
  createMetrics,
  loadConfig,
  type Logger,
  type logSchema,
  OpsServer,
  type opsSchema,
  printableConfig,
  Readiness,
  type redisSchema,
  type RedisSettings,
  redisSettings,
  type Registry,
  systemClock,
  version,
} from '@carrierarr/platform';
import { serverEnvNames } from './commands/server-env.js';
import { EXIT } from './exit.js';
import type { Host } from './host.js';
import { serve } from './serve.js';

type OpsSchema = typeof redisSchema & typeof logSchema & typeof opsSchema;

/** What every such program is made of, whatever it does. */
export interface OpsParts<S extends OpsSchema> {
  config: ConfigValues<S>;
  redisSettings: RedisSettings;
  logger: Logger;
  metrics: Registry;
  readiness: Readiness;
  clock: Clock;
}

export interface OpsProgramOptions<S extends OpsSchema> {
  name: 'runner' | 'monitor';
  schema: S;
  argv: readonly string[];
  summary: string;
  host: Host;
  /** Refuses combinations that the schema alone cannot. Throws ConfigError. */
  validate?: (config: ConfigValues<S>, program: string) => void;
  /** `fail` is for a part that finds it cannot go on. */
  build: (parts: OpsParts<S>, fail: (error: Error) => void) => Component;
}

/** Runs such a program until a signal; resolves to its exit code. Throws ConfigError. */
export async function runOpsProgram<S extends OpsSchema>(options: OpsProgramOptions<S>): Promise<number> {
  const { name, schema, argv, summary, host, validate, build } = options;
  const program = `carrierarr ${name}`;
  const loaded = loadConfig({ program, summary, schema, argv, env: host.env, knownEnv: serverEnvNames() });
  if (loaded.kind === 'help') {
    host.stdout.write(loaded.text);
    return EXIT.done;
  }
  const config = loaded.values;
  validate?.(config, program);
  const common: ConfigValues<OpsSchema> = config;
  const redis = redisSettings(common, program);
  const logger = createLogger({ program: name, level: common.logLevel, format: common.logFormat });
  logger.info({ version: version(), config: printableConfig(config, schema) }, 'starting');
  const metrics = createMetrics({ program: name, version: version() });
  const readiness = new Readiness();
  const ops = new OpsServer({ addr: common.opsAddr, readiness, metrics, version: version(), logger });
  const parts = { config, redisSettings: redis, logger, metrics, readiness, clock: systemClock };
  // Probes are answered from the first moment to the last.
  return serve({ components: (fail) => [ops, build(parts, fail)], logger, host });
}
