/** Which gateway the client verbs talk to, and as whom. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { type ConfigSchema, type ConfigValues, defineSchema, formats, loadConfig } from '@carrierarr/platform/light';
import type { Host } from '../host.js';
import { UsageError } from '../exit.js';

/** Where the gateway is, and who we are: for every client verb. */
export const accessSchema = defineSchema({
  url: { doc: 'The gateway.', format: formats.httpUrl, default: 'http://127.0.0.1:8090' },
  token: { doc: 'The token to present.', format: formats.token, default: null, secret: true },
});

/** Settings of most client verbs; a verb adds its own flags. */
export const clientSchema = defineSchema({
  ...accessSchema,
  output: {
    doc: 'Tables and lines for people, or one JSON document a line.',
    format: ['table', 'json'],
    default: 'table',
    aliases: ['o'],
  },
});

/** The two that decide where requests go; what `Api` and `Connection` take. */
export interface GatewayAccess {
  /** Without a slash at the end; may have a path. */
  readonly url: string;
  readonly token: string | null;
}

interface ClientOptions<S extends ConfigSchema> {
  readonly verb: string;
  readonly summary: string;
  readonly schema: S;
  readonly argv: readonly string[];
  readonly host: Host;
  /** Names of the positional arguments, as in `TARGET COMMAND [ARGS...]`. */
  readonly positionals?: string;
  /** Fewest and most of them. */
  readonly count: readonly [min: number, max: number];
  /** Further lines of the help text. */
  readonly notes?: string;
}

export interface ClientSettings<S extends ConfigSchema> {
  readonly values: ConfigValues<S>;
  readonly access: GatewayAccess;
  readonly positionals: readonly string[];
}

/** `$XDG_CONFIG_HOME/carrierarr/config.yaml`, by default below `~/.config`, on macOS too. */
export function clientConfigPath(env: NodeJS.ProcessEnv): string {
  return join(env['XDG_CONFIG_HOME'] || join(homedir(), '.config'), 'carrierarr', 'config.yaml');
}

/** Null when the help text was asked for, and printed. Throws ConfigError or UsageError. */
export function loadClient<const S extends ConfigSchema & typeof accessSchema>(
  options: ClientOptions<S>,
): ClientSettings<S> | null {
  const { verb, host, positionals, count } = options;
  const program = `carrierarr ${verb}`;
  const path = clientConfigPath(host.env);
  const loaded = loadConfig({
    program,
    summary: options.summary,
    schema: options.schema,
    argv: options.argv,
    env: host.env['CARRIERARR_CONFIG'] || !existsSync(path) ? host.env : { ...host.env, CARRIERARR_CONFIG: path },
    // A shell that also starts gateways and runners has their variables; they are no mistake here.
    knownEnv: Object.keys(host.env),
    ...(positionals !== undefined && { positionals }),
  });
  if (loaded.kind === 'help') {
    host.stdout.write(options.notes === undefined ? loaded.text : `${loaded.text}\n${options.notes}\n`);
    return null;
  }
  const got = loaded.positionals.length;
  if (got < count[0] || got > count[1]) {
    const usage = `Usage: ${program} [flags] ${positionals ?? ''}`.trimEnd();
    const found = got === 0 ? 'nothing' : loaded.positionals.map((word) => `\`${word}\``).join(' ');
    throw new UsageError(
      `Expected ${positionals ?? 'no arguments'}, got ${found}.\n${usage}   (\`${program} --help\`)`,
    );
  }
  const values = loaded.values as ConfigValues<S> & ConfigValues<typeof accessSchema>;
  const access = { url: values.url.replace(/\/+$/, ''), token: values.token };
  return { values, access, positionals: loaded.positionals };
}
