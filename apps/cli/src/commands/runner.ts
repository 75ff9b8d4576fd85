/** `carrierarr runner`: one runner, with a port for probes and metrics. */
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
import { createRunner, runnerSchema } from '@carrierarr/runner';
import { EXIT } from '../exit.js';
import type { Verb } from '../host.js';
import { serve } from '../serve.js';
import { serverEnvNames } from './server-env.js';

export const runner: Verb = {
  async run(argv, host, summary) {
    const program = 'carrierarr runner';
    const schema = runnerSchema;
    const loaded = loadConfig({ program, summary, schema, argv, env: host.env, knownEnv: serverEnvNames() });
    if (loaded.kind === 'help') {
      host.stdout.write(loaded.text);
      return EXIT.done;
    }
    const config = loaded.values;
    const redis = redisSettings(config, program);
    const logger = createLogger({ program: 'runner', level: config.logLevel, format: config.logFormat });
    logger.info({ version: version(), config: printableConfig(config, schema) }, 'starting');
    const metrics = createMetrics({ program: 'runner', version: version() });
    const readiness = new Readiness();
    const ops = new OpsServer({ addr: config.opsAddr, readiness, metrics, version: version(), logger });
    const build = (onFatal: (error: Error) => void) =>
      createRunner({
        ...{ config, redisSettings: redis, logger, metrics, readiness, onFatal },
        clock: systemClock,
        env: host.env,
        configNames: serverEnvNames(),
      });
    // Probes are answered from the first moment to the last.
    return serve({ components: (fail) => [ops, build(fail)], logger, host });
  },
};
