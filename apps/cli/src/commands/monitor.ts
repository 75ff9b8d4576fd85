/** `carrierarr monitor`: one monitor, with a port for probes and metrics. */
import { createMonitor, monitorSchema, validateAgentsConfig } from '@carrierarr/monitor';
import type { Verb } from '../host.js';
import { runOpsProgram } from '../ops-program.js';

export const monitor: Verb = {
  run: (argv, host, summary) =>
    runOpsProgram({
      ...{ name: 'monitor', schema: monitorSchema, argv, summary, host },
      validate: validateAgentsConfig,
      build: createMonitor,
    }),
};
