/** `carrierarr agent`: the agent of a worker machine, the same as `carrierarr-agent`. */
import { loadAgent } from '@carrierarr/agent';
import type { Verb } from '../host.js';
import { serverEnvNames } from './server-env.js';

export const agent: Verb = {
  async run(argv, host, summary) {
    const { runAgent } = await loadAgent();
    return runAgent({ program: 'carrierarr agent', summary, argv, host, knownEnv: serverEnvNames() });
  },
};
