/**
 * The configuration file: one flat map in YAML, of which JSON is a part, with the schema's keys. Parse errors say where,
 * but quote nothing, because the line at fault may hold a secret.
 */
import { readFileSync } from 'node:fs';
import { LineCounter, parseDocument } from 'yaml';

export type ConfigFile =
  | { readonly values: ReadonlyMap<string, unknown>; readonly problem?: never }
  | { readonly problem: string };

/** The entries of `path`; a key without a value (YAML's null) counts as not set and is left out. */
export function readConfigFile(path: string): ConfigFile {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    return { problem: `Cannot read the configuration file ${path} (\`--config\`): ${reason(error)}.` };
  }
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { prettyErrors: false, lineCounter });
  const [error] = document.errors;
  if (error) {
    const { line, col } = lineCounter.linePos(error.pos[0]);
    const fault = error.code === 'DUPLICATE_KEY' ? 'has a key twice' : 'is not valid YAML or JSON';
    return { problem: `The configuration file ${path} ${fault} at line ${line}, column ${col}.` };
  }
  const content: unknown = document.toJS();
  if (content === null) return { values: new Map() };
  if (typeof content !== 'object' || Array.isArray(content)) {
    return { problem: `The configuration file ${path} must be a map of keys to values, such as \`logLevel: info\`.` };
  }
  return { values: new Map(Object.entries(content).filter(([, value]) => value !== null)) };
}

/** Content of a secret's file without the newline an editor adds, or the words that say what is wrong with it. */
export function readSecretFile(path: string): { readonly text: string } | { readonly problem: string } {
  try {
    const text = readFileSync(path, 'utf8').replace(/\r?\n$/, '');
    return text === '' ? { problem: 'is empty' } : { text };
  } catch (error) {
    return { problem: `cannot be read: ${reason(error)}` };
  }
}

function reason(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT') return 'there is no such file';
  if (code === 'EACCES') return 'permission denied';
  if (code === 'EISDIR') return 'it is a folder';
  return message;
}
