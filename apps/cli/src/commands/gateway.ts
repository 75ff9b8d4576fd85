/** `carrierarr gateway`: one gateway, for installations of several programs. */
import { createGateway, gatewaySchema, validateGatewayConfig } from '@carrierarr/gateway';
import {
  createLogger,
  createMetrics,
  loadConfig,
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

export const gateway: Verb = {
  async run(argv, host, summary) {
    const program = 'carrierarr gateway';
    const loaded = loadConfig({
      program,
      summary,
      schema: gatewaySchema,
      argv,
      env: host.env,
      knownEnv: serverEnvNames(),
    });
    if (loaded.kind === 'help') {
      host.stdout.write(loaded.text);
      return EXIT.done;
    }
    const config = loaded.values;
    validateGatewayConfig(config, program);
    const redis = redisSettings(config, program);
    const logger = createLogger({ program: 'gateway', level: config.logLevel, format: config.logFormat });
    logger.info({ version: version(), config: printableConfig(config, gatewaySchema) }, 'starting');
    const component = createGateway({
      config,
      redisSettings: redis,
      logger,
      metrics: createMetrics({ program: 'gateway', version: version() }),
      readiness: new Readiness(),
      clock: systemClock,
    });
    return serve({ components: () => [component], logger, host });
  },
};
