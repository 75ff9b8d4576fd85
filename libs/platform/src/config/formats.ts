/**
 * What a configuration value may be. Each format is registered with convict under its name: convict coerces text with
 * `parse` and validates the result with `check`; the words in `allowed` are what a user reads when it is refused.
 *
 * A schema refers to a format by its name, typed with the value it yields, so that `loadConfig` can infer its result.
 */
import convict from 'convict';
import { type Address, parseAddress, printAddress } from './address.js';
import { parseByteSize, printByteSize } from './byte-size.js';
import { parseDuration, printDuration } from './duration.js';

declare const valueType: unique symbol;

/** Name of a registered format whose values are of type T. */
export type Format<T> = string & { readonly [valueType]: T };

export interface FormatDefinition<T> {
  /** Name in convict's registry. */
  readonly name: string;
  /** Completes the sentence "Expected `--flag` to be ...". */
  readonly allowed: string;
  /** Stands for the value in the help text. */
  readonly placeholder: string;
  /** A list's element format; repeated flags and commas make its elements. */
  readonly item?: FormatDefinition<unknown>;
  /** Value of `text`, or undefined when it is not allowed. */
  parse(text: string): T | undefined;
  /** Whether an already parsed value (from a schema's default or an object in a file) is allowed. */
  check(value: unknown): boolean;
  /** Text that `parse` reads back; String() when left out. */
  print?(value: T): string;
}

const definitions = new Map<string, FormatDefinition<unknown>>();

/** Registers a format. Defining one name twice is harmless as long as it means the same. */
export function defineFormat<T>(definition: FormatDefinition<T>): Format<T> {
  const refuse = () => {
    throw new Error(`must be ${definition.allowed}`);
  };
  convict.addFormat({
    name: definition.name,
    validate: (value: unknown) => (definition.check(value) ? undefined : refuse()),
    coerce: (text: string) => definition.parse(text) ?? refuse(),
  });
  definitions.set(definition.name, definition);
  return definition.name as Format<T>;
}

/** The definition behind a schema's `format`. Throws for a name nobody defined: a mistake in the schema. */
export function formatDefinition(format: string | readonly string[]): FormatDefinition<unknown> {
  if (typeof format !== 'string') return enumDefinition(format);
  const definition = definitions.get(format);
  if (!definition) throw new Error(`No configuration format is named "${format}".`);
  return definition;
}

function enumDefinition(choices: readonly string[]): FormatDefinition<unknown> {
  return {
    name: choices.join('|'),
    allowed: `one of ${choices.join(', ')}`,
    placeholder: choices.join('|'),
    parse: (text) => (choices.includes(text) ? text : undefined),
    check: (value) => choices.includes(value as string),
  };
}

function isWithin(value: unknown, min: number, max: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max;
}

/** A number format that accepts what `parse` reads when it lies in [min, max]. */
function numberFormat(
  definition: { name: string; allowed: string; placeholder: string },
  range: { min: number; max: number },
  parse: (text: string) => number | undefined,
  print: (value: number) => string = String,
): Format<number> {
  const check = (value: unknown) => isWithin(value, range.min, range.max);
  return defineFormat<number>({
    ...definition,
    check,
    print,
    parse: (text) => {
      const value = parse(text);
      return check(value) ? value : undefined;
    },
  });
}

const DURATION_WORDS = 'a duration such as 30s, 2m, 1h30m or 500ms';
const BYTES_WORDS = 'a size in bytes such as 65536, 64KiB or 16MiB';

function durationBetween(min: number, max: number): Format<number> {
  const allowed = `${DURATION_WORDS}, from ${printDuration(min)} to ${printDuration(max)}`;
  return numberFormat({ name: allowed, allowed, placeholder: 'DURATION' }, { min, max }, parseDuration, printDuration);
}

function bytesBetween(min: number, max: number): Format<number> {
  const allowed = `${BYTES_WORDS}, from ${printByteSize(min)} to ${printByteSize(max)}`;
  return numberFormat({ name: allowed, allowed, placeholder: 'SIZE' }, { min, max }, parseByteSize, printByteSize);
}

function intBetween(min: number, max: number): Format<number> {
  const allowed = `a whole number from ${min} to ${max}`;
  return numberFormat({ name: allowed, allowed, placeholder: 'NUMBER' }, { min, max }, parseInteger);
}

function parseInteger(text: string): number | undefined {
  return /^-?\d{1,16}$/.test(text) ? Number(text) : undefined;
}

/** Text that matches `pattern` as a whole; `allowed` says the same in words. */
function textMatching(pattern: RegExp, allowed: string, placeholder = 'TEXT'): Format<string> {
  const check = (value: unknown): value is string => typeof value === 'string' && pattern.test(value);
  return defineFormat<string>({
    name: `${allowed} ${pattern.source}`,
    allowed,
    placeholder,
    check,
    parse: (text) => (check(text) ? text : undefined),
  });
}

/**
 * A URL with one of `schemes` (without the colon), kept as its text. `example` is shown to users. What is escaped in it can be read:
 * a password may have been put in as it is.
 */
function urlWith(schemes: readonly string[], example: string): Format<string> {
  const check = (value: unknown): value is string =>
    typeof value === 'string' &&
    URL.canParse(value) &&
    schemes.includes(new URL(value).protocol.slice(0, -1)) &&
    isEscaped(value);
  const starts = schemes.map((scheme) => `${scheme}://`).join(' or ');
  const allowed = `a URL that starts with ${starts}, such as ${example} (% itself is written %25)`;
  return defineFormat<string>({
    name: allowed,
    allowed,
    placeholder: 'URL',
    check,
    parse: (text) => (check(text) ? text : undefined),
  });
}

function isEscaped(text: string): boolean {
  const { username, password, pathname } = new URL(text);
  try {
    for (const part of [username, password, pathname]) decodeURIComponent(part);
    return true;
  } catch {
    return false;
  }
}

/** Elements of `item`, separated by commas in text. */
function listOf<T>(item: Format<T>): Format<readonly T[]> {
  const definition = formatDefinition(item) as FormatDefinition<T>;
  return defineFormat<readonly T[]>({
    name: `list of ${definition.name}`,
    allowed: `a list separated by commas, each ${definition.allowed}`,
    placeholder: `${definition.placeholder},...`,
    item: definition,
    parse: (text) => {
      const elements: T[] = [];
      for (const part of text === '' ? [] : text.split(',')) {
        const element = definition.parse(part.trim());
        if (element === undefined) return undefined;
        elements.push(element);
      }
      return elements;
    },
    check: (value) => Array.isArray(value) && value.every((element) => definition.check(element)),
    print: (value) =>
      value.map((element) => (definition.print ? definition.print(element) : String(element))).join(','),
  });
}

/** What one of these takes, of formats for values of one type; printed as the first does it. */
function either<T>(...choices: readonly Format<T>[]): Format<T> {
  const all = choices.map((choice) => formatDefinition(choice) as FormatDefinition<T>);
  const [first] = all;
  if (first === undefined) throw new Error('Expected formats to choose from, got none.');
  return defineFormat<T>({
    ...first,
    name: all.map(({ name }) => name).join(' or '),
    allowed: all.map(({ allowed }) => allowed).join(' or '),
    parse: (text) => all.map((definition) => definition.parse(text)).find((value) => value !== undefined),
    check: (value) => all.some((definition) => definition.check(value)),
  });
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isTextMap(value: unknown): value is Record<string, string> {
  return isPlainObject(value) && Object.values(value).every((entry) => typeof entry === 'string');
}

function jsonFormat<T>(name: string, allowed: string, check: (value: unknown) => value is T): Format<T> {
  return defineFormat<T>({
    name,
    allowed,
    placeholder: 'JSON',
    check,
    parse: (text) => {
      try {
        const value: unknown = JSON.parse(text);
        return check(value) ? value : undefined;
      } catch {
        return undefined; // Not JSON at all; the caller says what is allowed.
      }
    },
    print: (value) => JSON.stringify(value),
  });
}

const TRUE_WORDS = ['true', '1', 'yes', 'on'];
const FALSE_WORDS = ['false', '0', 'no', 'off'];

const text = textMatching(/^[^\0]+$/s, 'text that is not empty');

/** Every format a schema may name; an array of words (`['json', 'pretty']`) is one too. */
export const formats = {
  text,
  textMatching,
  /** To be shown in a header. What no header can hold, as two lines, would be printed by whoever complains of it. */
  token: textMatching(/^[\x21-\x7e]+$/, 'one token, of printable ASCII without spaces', 'TOKEN'),
  filePath: textMatching(/^[^\0]+$/s, 'the path of a file', 'FILE'),
  boolean: defineFormat<boolean>({
    name: 'true or false',
    allowed: 'true or false',
    placeholder: '',
    parse: (word) =>
      TRUE_WORDS.includes(word.toLowerCase()) ? true : FALSE_WORDS.includes(word.toLowerCase()) ? false : undefined,
    check: (value) => typeof value === 'boolean',
  }),
  duration: numberFormat(
    { name: 'duration in ms', allowed: DURATION_WORDS, placeholder: 'DURATION' },
    { min: 0, max: Number.MAX_SAFE_INTEGER },
    parseDuration,
    printDuration,
  ),
  /** Limits in milliseconds, both allowed. */
  durationBetween,
  byteSize: numberFormat(
    { name: 'size in bytes', allowed: BYTES_WORDS, placeholder: 'SIZE' },
    { min: 0, max: Number.MAX_SAFE_INTEGER },
    parseByteSize,
    printByteSize,
  ),
  /** Limits in bytes, both allowed. */
  bytesBetween,
  intBetween,
  /** A TCP port; 0 asks the system for a free one. */
  port: intBetween(0, 65_535),
  address: defineFormat<Address>({
    name: 'address to listen on',
    allowed: 'an address such as 127.0.0.1:8090, [::1]:8090 or, for every interface, :8090',
    placeholder: 'HOST:PORT',
    parse: parseAddress,
    check: (value) => isPlainObject(value) && parseAddress(printAddress(value as unknown as Address)) !== undefined,
    print: printAddress,
  }),
  /** The address of something else: host and port are both needed. */
  hostPort: defineFormat<Address>({
    name: 'host and port',
    allowed: 'a host and port such as redis-0.example:6379',
    placeholder: 'HOST:PORT',
    parse: (word) => {
      const address = parseAddress(word);
      return address && address.host !== '' && address.port !== 0 ? address : undefined;
    },
    check: (value) => isPlainObject(value) && Boolean(value['host']) && isWithin(value['port'], 1, 65_535),
    print: printAddress,
  }),
  httpUrl: urlWith(['http', 'https'], 'https://carrierarr.example'),
  urlWith,
  list: listOf(text),
  listOf,
  either,
  jsonObject: jsonFormat('JSON object', 'a JSON object such as {"key":"value"}', isPlainObject),
  /** A JSON object whose values are all text, such as tags. */
  textMap: jsonFormat('JSON object of text', 'a JSON object with text values such as {"Name":"gpu"}', isTextMap),
} as const;
