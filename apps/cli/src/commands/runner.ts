/** `carrierarr runner`: one runner, with a port for probes and metrics. */
import { createRunner, runnerSchema, validateRunnerConfig } from '@carrierarr/runner';
import type { Verb } from '../host.js';
import { runOpsProgram } from '../ops-program.js';
import { serverEnvNames } from './server-env.js';

export const runner: Verb = {
  run: (argv, host, summary) =>
    runOpsProgram({
      ...{ name: 'runner', schema: runnerSchema, argv, summary, host },
      build: (parts, onFatal) => {
        validateRunnerConfig(parts.config);
        return createRunner({ ...parts, onFatal, env: host.env, configNames: serverEnvNames() });
      },
    }),
};
