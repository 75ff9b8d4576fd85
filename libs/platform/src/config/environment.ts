/**
 * carrierarr's environment variables: which exist, and which set ones are typos.
 *
 * A mistyped CARRIERARR_ variable must not be ignored silently, but not everything with that prefix is ours to judge:
 * runners set some for scripts, and Kubernetes sets `<SERVICE>_PORT` and the like in every pod for each Service in its
 * namespace, so a Service named `carrierarr-gateway` would otherwise stop every program of the release.
 */
import type { ConfigProblem } from './config-error.js';
import { suggestion } from './nearest.js';
import { type ConfigSchema, type ResolvedKey, resolveKeys } from './schema.js';

/** Names the configuration file; the same as `--config`. */
export const CONFIG_FILE_ENV = 'CARRIERARR_CONFIG';

/** Set by runners for the scripts they start, so a carrierarr command inside a script sees them. */
export const SCRIPT_ENV_NAMES = [
  'CARRIERARR_TARGET',
  'CARRIERARR_COMMAND',
  'CARRIERARR_EXECUTION_ID',
  'CARRIERARR_FENCE',
  'CARRIERARR_ATTEMPT',
] as const;

// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
const SERVICE_LINK = /_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/;
const SERVICE_LINK_VALUE = /^(tcp|udp|sctp):\/\//;

function isServiceLink(name: string, value: string): boolean {
  return SERVICE_LINK.test(name) || (name.endsWith('_PORT') && SERVICE_LINK_VALUE.test(value));
}

/** The variable's value. Empty counts as not set, as Compose and Helm write unset ones; so do Kubernetes' own. */
export function readEnv(env: NodeJS.ProcessEnv, name: string): string | undefined {
  const value = env[name];
  return value === undefined || value === '' || isServiceLink(name, value) ? undefined : value;
}

function namesOf({ env, secret }: ResolvedKey): string[] {
  if (env === null) return [];
  return secret ? [env, `${env}_FILE`] : [env];
}

/**
 * Every variable that configures a program with this schema, `<ENV>_FILE` of secrets and CARRIERARR_CONFIG included.
 * For `knownEnv`, and for runners, which keep them from scripts.
 */
export function configEnvNames(schema: ConfigSchema): string[] {
  return [CONFIG_FILE_ENV, ...resolveKeys(schema).flatMap(namesOf)];
}

/** A problem for each CARRIERARR_ variable that is not in `known`. Its value is not shown: it may be a secret. */
export function unknownEnvProblems(env: NodeJS.ProcessEnv, known: Iterable<string>): ConfigProblem[] {
  const names = new Set<string>([...known, ...SCRIPT_ENV_NAMES]);
  return Object.entries(env)
    .filter(([name, value]) => name.startsWith('CARRIERARR_') && !names.has(name) && !isServiceLink(name, value ?? ''))
    .map(([name]) => ({
      key: null,
      message: `Unknown environment variable ${name}.${suggestion(name, names) || ' Unset it.'}`,
    }));
}
