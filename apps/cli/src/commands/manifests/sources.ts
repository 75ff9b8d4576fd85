/** The texts that `-f` names: files, all manifests of a folder, or standard input. */
import { type Dirent, readdirSync, readFileSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';
import { UsageError } from '../../exit.js';
import type { Host } from '../../host.js';

const EXTENSIONS = new Set(['.yaml', '.yml', '.json']);
/** Most bytes of one file, or of standard input. */
const SOURCE_BYTES_MAX = 32 * 1024 * 1024;
/** Most files of one folder. */
const FOLDER_FILES_MAX = 10_000;
export const STDIN = '-';

export type Source =
  | { readonly file: string; readonly text: string }
  /** It could not be read. */
  | { readonly file: string; readonly problem: string };

/** In the order given, the files of a folder by name. Throws UsageError for what nobody can mean. */
export async function readSources(paths: readonly string[], host: Host): Promise<Source[]> {
  if (paths.length === 0) throw new UsageError('Expected `-f FILE`, `-f FOLDER` or `-f -`, got none.');
  if (paths.filter((path) => path === STDIN).length > 1) {
    throw new UsageError('`-f -` is there twice, but standard input can be read only once.');
  }
  const sources: Source[] = [];
  for (const path of paths) {
    if (path === STDIN) sources.push(await readStdin(host));
    else sources.push(...readPath(path));
  }
  return sources;
}

function readPath(path: string): Source[] {
  try {
    if (!statSync(path).isDirectory()) return [readFile(path)];
    const files = readdirSync(path, { withFileTypes: true })
      .filter((entry) => isManifest(entry))
      .map(({ name }) => name)
      .toSorted();
    if (files.length > FOLDER_FILES_MAX) {
      return [
        { file: path, problem: `It has ${files.length} manifests; at most ${FOLDER_FILES_MAX} are read at once.` },
      ];
    }
    if (files.length === 0) return [{ file: path, problem: 'It has no file that ends with .yaml, .yml or .json.' }];
    return files.map((name) => readFile(join(path, name)));
  } catch (error) {
    return [{ file: path, problem: whyUnreadable(error) }];
  }
}

/** A link counts by what it is named; whether it leads anywhere is found when it is read. */
function isManifest(entry: Dirent): boolean {
  return !entry.isDirectory() && EXTENSIONS.has(extname(entry.name).toLowerCase());
}

function readFile(path: string): Source {
  try {
    const { size } = statSync(path);
    return size > SOURCE_BYTES_MAX ? tooLarge(path) : { file: path, text: decode(readFileSync(path)) };
  } catch (error) {
    return { file: path, problem: whyUnreadable(error) };
  }
}

async function readStdin({ stdin }: Host): Promise<Source> {
  const file = 'standard input';
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stdin) {
    const piece = Buffer.from(chunk as Uint8Array | string);
    bytes += piece.length;
    if (bytes > SOURCE_BYTES_MAX) return tooLarge(file);
    chunks.push(piece);
  }
  return { file, text: decode(Buffer.concat(chunks)) };
}

/** Throws for bytes that are no UTF-8: replaced characters would end up in names and arguments. */
function decode(bytes: Buffer): string {
  return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
}

function tooLarge(file: string): Source {
  return { file, problem: `It is larger than ${SOURCE_BYTES_MAX} bytes.` };
}

function whyUnreadable(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  switch (code) {
    case 'ENOENT':
      return 'There is no such file or folder.';
    case 'EACCES':
    case 'EPERM':
      return 'It may not be read by this user.';
    case 'ERR_ENCODING_INVALID_ENCODED_DATA':
      return 'It is not UTF-8 text.';
    default:
      return `It cannot be read: ${message}.`;
  }
}
