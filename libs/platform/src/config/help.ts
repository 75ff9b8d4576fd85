/** The text of `--help` and the Markdown reference, both from the schema, so neither can disagree with the program. */
import { CONFIG_FILE_ENV } from './environment.js';
import { type ConfigSchema, printValue, type ResolvedKey, resolveKeys } from './schema.js';

export interface ProgramDescription {
  /** As the user types it, for example `carrierarr gateway`. */
  readonly program: string;
  /** One sentence. */
  readonly summary: string;
  readonly schema: ConfigSchema;
  /** Names of the positional arguments, if it takes any. */
  readonly positionals?: string | undefined;
}

const WIDTH = 96;
const INDENT = '      ';

function wrap(text: string): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + word.length + 1 > WIDTH - INDENT.length) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line].map((part) => INDENT + part).join('\n');
}

/** null when nothing is set by default. */
function defaultText(key: ResolvedKey): string | null {
  if (key.defaultValue === null) return null;
  const text = printValue(key, key.defaultValue);
  return text === '' ? null : text;
}

function names(key: ResolvedKey): string[] {
  return key.flag === null ? [] : [key.flag, ...key.aliases];
}

function isBoolean({ definition }: ResolvedKey): boolean {
  return definition.check(true);
}

function helpEntry(key: ResolvedKey): string {
  const flags = names(key).map((name) => (isBoolean(key) ? `--[no-]${name}` : `--${name}`));
  const placeholder = key.definition.placeholder === '' ? '' : ` ${key.definition.placeholder}`;
  const secretNames = [`--${key.flag}-file`, ...(key.env === null ? [] : [`${key.env}_FILE`])];
  const origin = [
    ...(defaultText(key) === null ? [] : [`Default: ${defaultText(key)}.`]),
    ...(key.env === null ? [] : [`Environment: ${key.env}.`]),
  ];
  const paragraphs = [
    key.doc,
    isBoolean(key) ? '' : `Allowed: ${key.allowed}.`,
    key.secret ? `Secret: better kept in a file named by ${secretNames.join(' or ')}.` : '',
    origin.join(' '),
  ];
  const body = paragraphs.filter((paragraph) => paragraph !== '').map(wrap);
  return [`  ${flags.join(', ')}${placeholder}`, ...body].join('\n');
}

/** Ends with a newline. */
export function helpText({ program, summary, schema, positionals }: ProgramDescription): string {
  const usage = positionals === undefined ? `${program} [flags]` : `${program} [flags] ${positionals}`;
  const entries = resolveKeys(schema)
    .filter(({ flag }) => flag !== null)
    .map(helpEntry);
  const config = `  --config FILE\n${wrap(
    `A YAML or JSON file with the same settings under their camelCase names. Environment: ${CONFIG_FILE_ENV}.`,
  )}`;
  return `${summary}

Usage: ${usage}

Flags win over environment variables, those over the file, that over the defaults. One dash works as well as two.

Flags:
${[...entries, config, `  --help\n${wrap('Print this text.')}`].join('\n\n')}
`;
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}

function code(text: string | null): string {
  return text === null ? '' : `\`${text}\``;
}

function referenceRow(key: ResolvedKey): string {
  const flags = names(key).map((name) => code(`--${name}`));
  const env = key.env === null ? [] : [code(key.env)];
  if (key.secret) {
    flags.push(code(`--${key.flag}-file`));
    if (key.env !== null) env.push(code(`${key.env}_FILE`));
  }
  const cells = [flags.join(', '), env.join(', '), code(key.key), code(defaultText(key)), key.allowed, key.doc];
  return `| ${cells.map(cell).join(' | ')} |`;
}

/** Markdown for docs/reference/configuration.md; a test compares the two. */
export function configReference(programs: readonly ProgramDescription[]): string {
  const sections = programs.map(
    ({ program, summary, schema }) => `## \`${program}\`

${summary}

| flag | environment | file key | default | allowed | meaning |
|---|---|---|---|---|---|
${resolveKeys(schema).map(referenceRow).join('\n')}
`,
  );
  return `# Configuration

Generated from the programs' schemas; do not edit. Flags win over environment variables, those over the file
(\`--config FILE\` or \`${CONFIG_FILE_ENV}\`, YAML or JSON), that over the defaults. An unknown flag, variable or key
and a value that is not allowed stop the start. A secret can be kept in a file, named by \`--<flag>-file\`,
\`<VARIABLE>_FILE\` or \`<key>File\`.

${sections.join('\n')}`;
}
