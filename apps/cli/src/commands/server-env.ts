/**
 * Variables that some program of carrierarr reads: set for one, no mistake for another, and none of a script's business. Every
 * program looks here as it starts, so nothing but settings is loaded of the others.
 */
import { agentSchema } from '@carrierarr/agent/config';
import { gatewaySchema } from '@carrierarr/gateway/config';
import { monitorSchema } from '@carrierarr/monitor/config';
import { configEnvNames } from '@carrierarr/platform/light';
import { runnerSchema } from '@carrierarr/runner/config';
import { clientSchema } from '../client/settings.js';
import { upOwnSchema } from './up-schema.js';

export function serverEnvNames(): string[] {
  return [gatewaySchema, runnerSchema, monitorSchema, agentSchema, upOwnSchema, clientSchema].flatMap(configEnvNames);
}
