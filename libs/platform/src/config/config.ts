/**
 * A program's configuration from flags, environment, file and defaults, in that order. Every problem is collected and
 * reported together; nothing that looks like configuration is ignored, because a typo that is ignored runs a fleet with
 * a default.
 *
 * convict holds the schema, coerces texts and has the last word on every value (defaults too). The sources are read here
 * rather than by convict, since its own reading stops at the first bad value and cannot say where a value came from.
 */
import convict from 'convict';
import { redactUrl } from '../redact.js';
import { badValue, ConfigError, type ConfigProblem, nameOf, type Origin, quote } from './config-error.js';
import { readConfigFile, readSecretFile } from './config-file.js';
import { CONFIG_FILE_ENV, configEnvNames, readEnv, unknownEnvProblems } from './environment.js';
import { type ParsedFlags, parseFlags } from './flags.js';
import { helpText } from './help.js';
import { suggestion } from './nearest.js';
import { type ConfigSchema, type ConfigValues, printValue, type ResolvedKey, resolveKeys } from './schema.js';

export interface LoadConfigOptions<S extends ConfigSchema> {
  /** As the user types it, for example `carrierarr gateway`. */
  readonly program: string;
  /** One sentence for `--help`. */
  readonly summary: string;
  readonly schema: S;
  /** Without node and the script: `process.argv.slice(2)`. */
  readonly argv: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** CARRIERARR_ variables of every other program, which may be set without this one knowing them. */
  readonly knownEnv?: Iterable<string>;
  /** Names of the positional arguments for the usage line (`TARGET COMMAND [ARGS...]`); without it none are allowed. */
  readonly positionals?: string;
}

export type LoadedConfig<S extends ConfigSchema> =
  | { readonly kind: 'config'; readonly values: ConfigValues<S>; readonly positionals: readonly string[] }
  | { readonly kind: 'help'; readonly text: string };

/** A value as it was found, before it is parsed. `raw` is text, or from a file also an array or an object. */
interface Found {
  readonly origin: Origin;
  readonly raw: unknown;
}

interface FileValues {
  readonly path: string;
  readonly values: ReadonlyMap<string, unknown>;
}

/** Throws ConfigError with every problem when the configuration cannot be used. Reads files, sets nothing. */
export function loadConfig<const S extends ConfigSchema>(options: LoadConfigOptions<S>): LoadedConfig<S> {
  const { program, summary, schema, argv, env, knownEnv = [], positionals } = options;
  const keys = resolveKeys(schema);
  const flags = parseFlags(argv, keys);
  if (flags.isHelp) return { kind: 'help', text: helpText({ program, summary, schema, positionals }) };

  const problems: ConfigProblem[] = [...flags.problems];
  if (positionals === undefined) problems.push(...flags.positionals.map(unexpectedArgument));
  problems.push(...unknownEnvProblems(env, [...configEnvNames(schema), ...knownEnv]));
  const file = readFileValues(flags.configFile ?? readEnv(env, CONFIG_FILE_ENV), keys, problems);

  const config = convict<Record<string, unknown>>(convictSchema(keys, schema), { env: {}, args: [] });
  for (const key of keys) {
    // Only the winner is read: a bad value in the file does not matter when a flag replaces it.
    const found = findSource(key, flags, env, file);
    if (!found) continue;
    if ('problem' in found) {
      problems.push({ key: key.key, message: found.problem });
      continue;
    }
    const value = parse(key, found.raw);
    if (value === undefined) problems.push(badValue(key, found.origin, found.raw));
    else config.set(key.key, value);
  }
  if (problems.length > 0) throw new ConfigError(program, problems);
  config.validate({ allowed: 'strict' });
  return { kind: 'config', values: config.getProperties() as ConfigValues<S>, positionals: flags.positionals };
}

function unexpectedArgument(argument: string): ConfigProblem {
  return { key: null, message: `Unexpected argument ${quote(argument, false)}; flags begin with \`--\`.` };
}

function convictSchema(keys: readonly ResolvedKey[], schema: ConfigSchema) {
  const entries = keys.map((key) => {
    const format = schema[key.key]?.format;
    const shared = { doc: key.doc, format: typeof format === 'string' ? format : [...(format ?? [])] };
    // Convict wants defaults as values: it would take an object that was written as text for a missing key.
    return [
      key.key,
      { ...shared, default: key.defaultValue, nullable: key.defaultValue === null, sensitive: key.secret },
    ];
  });
  return Object.fromEntries(entries) as convict.Schema<Record<string, unknown>>;
}

function readFileValues(path: string | undefined, keys: readonly ResolvedKey[], problems: ConfigProblem[]): FileValues {
  if (path === undefined) return { path: '', values: new Map() };
  const file = readConfigFile(path);
  if (file.problem !== undefined) {
    problems.push({ key: null, message: file.problem });
    return { path, values: new Map() };
  }
  const known = keys.flatMap(({ key, secret }) => (secret ? [key, `${key}File`] : [key]));
  for (const name of file.values.keys()) {
    if (known.includes(name)) continue;
    const hint = suggestion(name, known) || ' Remove it.';
    problems.push({ key: null, message: `Unknown key \`${name}\` in the configuration file ${path}.${hint}` });
  }
  return { path, values: file.values };
}

/** The first source that has the key, by precedence. */
function findSource(
  key: ResolvedKey,
  flags: ParsedFlags,
  env: NodeJS.ProcessEnv,
  file: FileValues,
): Found | { readonly problem: string } | undefined {
  const flag = flags.values.get(key.key);
  const flagFile = flags.secretFiles.get(key.key);
  if (flag || flagFile) {
    const isList = key.definition.item !== undefined;
    const text = isList ? flag?.texts.filter((part) => part !== '').join(',') : flag?.texts.at(-1);
    return chooseSecret(
      key,
      { origin: { kind: 'flag', name: flag?.flag ?? '' }, raw: text },
      { origin: { kind: 'flag', name: flagFile?.flag ?? '' }, raw: flagFile?.path },
    );
  }
  if (key.env !== null) {
    const text = readEnv(env, key.env);
    const path = key.secret ? readEnv(env, `${key.env}_FILE`) : undefined;
    if (text !== undefined || path !== undefined) {
      return chooseSecret(
        key,
        { origin: { kind: 'environment', name: key.env }, raw: text },
        { origin: { kind: 'environment', name: `${key.env}_FILE` }, raw: path },
      );
    }
  }
  const value = file.values.get(key.key);
  const path = key.secret ? file.values.get(`${key.key}File`) : undefined;
  if (value === undefined && path === undefined) return undefined;
  return chooseSecret(
    key,
    { origin: { kind: 'file', name: key.key, path: file.path }, raw: value },
    { origin: { kind: 'file', name: `${key.key}File`, path: file.path }, raw: path },
  );
}

/** The value itself, or the content of the file that holds it. One source giving both is ambiguous. */
function chooseSecret(key: ResolvedKey, direct: Found, viaFile: Found): Found | { readonly problem: string } {
  if (viaFile.raw === undefined) return direct;
  const name = nameOf(key, viaFile.origin);
  if (direct.raw !== undefined) {
    return { problem: `Both ${nameOf(key, direct.origin)} and ${name} are set. Keep one of them.` };
  }
  if (typeof viaFile.raw !== 'string') {
    return { problem: `Expected ${name} to be the path of a file, got ${quote(viaFile.raw, false)}.` };
  }
  const secret = readSecretFile(viaFile.raw);
  if ('text' in secret) return { origin: viaFile.origin, raw: secret.text };
  return { problem: `The file ${quote(viaFile.raw, false)} that ${name} names ${secret.problem}.` };
}

/** The key's value, or undefined when it is not allowed. */
function parse({ definition }: ResolvedKey, raw: unknown): unknown {
  if (typeof raw === 'string') return definition.parse(raw);
  // A number or boolean in YAML is what its text says: `30` is no duration there either.
  if (typeof raw === 'number' || typeof raw === 'boolean') return definition.parse(String(raw));
  const { item } = definition;
  if (item && Array.isArray(raw)) {
    const elements = raw.map((element: unknown) => item.parse(String(element)));
    return elements.includes(undefined) ? undefined : elements;
  }
  return definition.check(raw) ? raw : undefined;
}

/** Values fit for a log line: as a user would write them, secrets and passwords in URLs masked. */
export function printableConfig<S extends ConfigSchema>(
  values: ConfigValues<S>,
  schema: S,
): Record<string, string | null> {
  const printed = resolveKeys(schema).map((key) => {
    const value: unknown = values[key.key];
    if (value === null) return [key.key, null];
    return [key.key, key.secret ? '***' : redactUrl(printValue(key, value))];
  });
  return Object.fromEntries(printed) as Record<string, string | null>;
}
