/** Variables that some program of carrierarr reads: set for one, no mistake for another, and none of a script's business. */
import { agentSchema } from '@carrierarr/agent';
import { gatewaySchema } from '@carrierarr/gateway';
import { monitorSchema } from '@carrierarr/monitor';
import { configEnvNames } from '@carrierarr/platform/light';
import { runnerSchema } from '@carrierarr/runner';
import { clientSchema } from '../client/settings.js';
import { upOwnSchema } from './up-schema.js';

export function serverEnvNames(): string[] {
  return [gatewaySchema, runnerSchema, monitorSchema, agentSchema, upOwnSchema, clientSchema].flatMap(configEnvNames);
}
