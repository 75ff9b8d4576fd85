/**
 * The shape of a configuration schema: a convict schema of one level, with three additions (`aliases`, `secret`,
 * `allowed`). A key's flag and environment variable follow from its name (`logLevel`: `--log-level`,
 * `CARRIERARR_LOG_LEVEL`) unless the schema says otherwise, so that a schema cannot be inconsistent with itself.
 */
import { type Format, type FormatDefinition, formatDefinition } from './formats.js';

export interface ConfigKey {
  /** One sentence for `--help` and the reference. */
  readonly doc: string;
  /** One of `formats`, or the words allowed. */
  readonly format: string | readonly string[];
  /** The value, or its text as a user would write it (`'30s'`). null: not set, and the value may be null. */
  readonly default: unknown;
  /** Environment variable; derived from the key when left out, none when null. */
  readonly env?: string | null;
  /** Flag without dashes; derived from the key when left out, none when null. */
  readonly arg?: string | null;
  /** Other names of the flag. */
  readonly aliases?: readonly string[];
  /** Never printed; also read from the file named by `<ENV>_FILE`, `--<flag>-file` or `<key>File`. */
  readonly secret?: boolean;
  /** Replaces the format's own words in errors and help: completes "Expected `--flag` to be ...". */
  readonly allowed?: string;
}

export type ConfigSchema = Readonly<Record<string, ConfigKey>>;

type ValueOf<K extends ConfigKey> =
  | (K['format'] extends Format<infer T> ? T : K['format'] extends readonly (infer Word)[] ? Word : never)
  | (K['default'] extends null ? null : never);

/** What a loaded schema yields: each key's value, or null where nothing was set and the default is null. */
export type ConfigValues<S extends ConfigSchema> = { readonly [K in keyof S]: ValueOf<S[K]> };

/** Keeps the literal types of a schema that is not written inside a call of `loadConfig`. */
export function defineSchema<const S extends ConfigSchema>(schema: S): S {
  return schema;
}

/** A schema's key with everything derived and defaulted. */
export interface ResolvedKey {
  readonly key: string;
  readonly doc: string;
  readonly definition: FormatDefinition<unknown>;
  /** Parsed; null when there is none. */
  readonly defaultValue: unknown;
  readonly env: string | null;
  readonly flag: string | null;
  readonly aliases: readonly string[];
  readonly secret: boolean;
  readonly allowed: string;
}

/** `logLevel` as `log-level`. */
function kebab(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

export function resolveKeys(schema: ConfigSchema): ResolvedKey[] {
  return Object.entries(schema).map(([key, entry]) => {
    const definition = formatDefinition(entry.format);
    const defaultValue = typeof entry.default === 'string' ? definition.parse(entry.default) : entry.default;
    if (defaultValue === undefined) {
      throw new Error(`The schema's default of "${key}" is not ${definition.allowed}.`);
    }
    return {
      key,
      doc: entry.doc,
      definition,
      defaultValue,
      env: entry.env === undefined ? `CARRIERARR_${kebab(key).replaceAll('-', '_').toUpperCase()}` : entry.env,
      flag: entry.arg === undefined ? kebab(key) : entry.arg,
      aliases: entry.aliases ?? [],
      secret: entry.secret ?? false,
      allowed: entry.allowed ?? definition.allowed,
    };
  });
}

/** A value as a user would write it. */
export function printValue({ definition }: ResolvedKey, value: unknown): string {
  return definition.print ? definition.print(value) : String(value);
}
