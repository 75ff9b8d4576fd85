/** Which secrets are hidden in output, as a runner and an agent are told. */
import { readFileSync } from 'node:fs';
import { ConfigError, type ConfigValues, defineSchema, formats, type Logger } from '@carrierarr/platform';
import { SECRET_BYTES_MIN, secretParts } from './redact.js';

export const redactionSchema = defineSchema({
  redactFile: {
    doc: 'File of secrets, one a line, that are replaced by *** in output. Best effort.',
    format: formats.filePath,
    default: null,
  },
  redactEnv: {
    doc: 'Names of environment variables whose values are replaced by *** in output, separated by commas. Best effort.',
    format: formats.list,
    default: [],
  },
});

export interface SecretsOptions {
  config: ConfigValues<typeof redactionSchema>;
  /** The program's own secrets, by what they are called in a warning; those that are not set are passed over. */
  own: Readonly<Record<string, string | null | undefined>>;
  env: NodeJS.ProcessEnv;
  logger: Pick<Logger, 'warn'>;
  /** As the user typed it. */
  program: string;
}

/** What is to be hidden. Warns of what is too short for that. Throws {@link ConfigError} if the file cannot be read. */
export function readSecrets({ config, own, env, logger, program }: SecretsOptions): string[] {
  const named: [string, string | null | undefined][] = Object.entries(own);
  for (const name of config.redactEnv) named.push([name, env[name]]);
  const lines = config.redactFile === null ? [] : linesOf(config.redactFile, program);
  for (const [i, line] of lines.entries()) named.push([`line ${i + 1} of ${config.redactFile}`, line]);
  return named.flatMap(([name, secret]) => {
    if (!secret) return [];
    if (secretParts(secret).length === 0)
      logger.warn({ secret: name }, `too short to be hidden in output: it needs ${SECRET_BYTES_MIN} bytes`);
    return [secret];
  });
}

function linesOf(file: string, program: string): string[] {
  try {
    return readFileSync(file, 'utf8').split(/\r?\n/);
  } catch (cause) {
    const message = `Cannot read the file of secrets that \`--redact-file\` names: ${(cause as Error).message}.`;
    throw new ConfigError(program, [{ key: 'redactFile', message }]);
  }
}
