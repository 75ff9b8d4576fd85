/** `carrierarr monitor`: one monitor, with a port for probes and metrics. */
import { createMonitor, monitorSchema } from '@carrierarr/monitor';
import {
  createLogger,
  createMetrics,
  loadConfig,
  OpsServer,
  printableConfig,
  Readiness,
  redisSettings,
  systemClock,
  version,
} from '@carrierarr/platform';
import { EXIT } from '../exit.js';
import type { Verb } from '../host.js';
import { serve } from '../serve.js';
import { serverEnvNames } from './server-env.js';

export const monitor: Verb = {
  async run(argv, host, summary) {
    const program = 'carrierarr monitor';
    const schema = monitorSchema;
    const loaded = loadConfig({ program, summary, schema, argv, env: host.env, knownEnv: serverEnvNames() });
    if (loaded.kind === 'help') {
      host.stdout.write(loaded.text);
      return EXIT.done;
    }
    const config = loaded.values;
    const redis = redisSettings(config, program);
    const logger = createLogger({ program: 'monitor', level: config.logLevel, format: config.logFormat });
    logger.info({ version: version(), config: printableConfig(config, schema) }, 'starting');
    const metrics = createMetrics({ program: 'monitor', version: version() });
    const readiness = new Readiness();
    const ops = new OpsServer({ addr: config.opsAddr, readiness, metrics, version: version(), logger });
    const built = createMonitor({
      ...{ config, redisSettings: redis, logger, metrics, readiness },
      clock: systemClock,
    });
    // Probes are answered from the first moment to the last.
    return serve({ components: () => [ops, built], logger, host });
  },
};
