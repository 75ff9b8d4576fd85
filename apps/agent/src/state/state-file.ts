/** A small JSON document on disk that is there whole or not at all, whatever happens while it is written. */
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';

export class StateFile<T> {
  readonly #path: string;
  /** Writes follow one another; of several that wait only the newest is made. */
  #writing: Promise<void> = Promise.resolve();
  #next: T | undefined;

  constructor(folder: string, name: string) {
    this.#path = join(folder, name);
  }

  /** Undefined if there is none, or what is there cannot be read. */
  async read(): Promise<T | undefined> {
    try {
      return JSON.parse(await readFile(this.#path, 'utf8')) as T;
    } catch {
      return undefined;
    }
  }

  /** Resolves once it is on the disk. Rejects if that cannot be written. */
  write(value: T): Promise<void> {
    this.#next = value;
    this.#writing = this.#writing.catch(() => undefined).then(() => this.#write());
    return this.#writing;
  }

  async #write(): Promise<void> {
    const value = this.#next;
    if (value === undefined) return;
    this.#next = undefined;
    await writeWhole(this.#path, `${JSON.stringify(value)}\n`);
  }
}

/** Replaces a file's content in one step, and has it on the disk before it returns. */
export async function writeWhole(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const next = `${path}.next`;
  const file = await open(next, 'w', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(next, path);
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** What to say, and what to do, of a state folder that cannot be used. */
export function unusableFolder(folder: string, cause: Error): Error {
  const message = `The state folder ${folder} cannot be used: ${cause.message}. Name another with --state-dir.`;
  return new Error(message, { cause });
}
