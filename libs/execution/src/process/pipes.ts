/**
 * Real pipes for a program's output.
 *
 * Node connects children by sockets, and a socket cannot be opened again: `echo oops >/dev/stderr`, which many scripts
 * write, fails with ENXIO. Node has no pipe(2) either, but a FIFO whose name nobody else knows is one. Its ends are
 * opened here and handed to the child as descriptors, so the name matters for a moment only.
 *
 * FIFOs are kept for the next execution, once every writer is known to be gone: who still held the old one's end could
 * else write into the new one's output.
 */
import { execFile } from 'node:child_process';
import { close, constants, open } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** Both ends of a pipe. */
export interface Pipe {
  reader: Socket;
  /** For the child; closed by {@link OutputPipes.closeWriters} once it has started. */
  writeFd: number;
}

// Not FileHandle, which would close a descriptor that a socket owns as soon as it is collected.
const openFd = promisify(open);
const closeFd = promisify(close);

/** The pipes of one execution. */
export interface OutputPipes {
  stdout: Pipe;
  stderr: Pipe;
  /** Closes our copy of the ends that write: end of file comes when the program's are gone too. */
  closeWriters(): Promise<void>;
  /** Closes the rest. `isDrained`: both readers have seen the end of file. */
  release(isDrained: boolean): Promise<void>;
}

export class PipeFolder {
  #folder: string | undefined;
  #count = 0;
  readonly #idle: [string, string][] = [];
  readonly #prefix: string;

  /** `owner`: which program's pipes they are, such as `runner`; part of the folder's name. */
  constructor(owner: string) {
    this.#prefix = `carrierarr-${owner}-`;
  }

  /** Makes the private folder in which FIFOs lie, and removes those of such programs that were killed. */
  async open(): Promise<void> {
    await this.#makeFolder();
    const names = await readdir(tmpdir());
    const stale = names.filter(
      (name) => name.startsWith(this.#prefix) && isOfDeadProcess(name.slice(this.#prefix.length)),
    );
    // Another user's folder stays: that is not ours to remove.
    await Promise.allSettled(stale.map((name) => rm(join(tmpdir(), name), { recursive: true, force: true })));
  }

  async close(): Promise<void> {
    if (this.#folder !== undefined) await rm(this.#folder, { recursive: true, force: true });
    this.#folder = undefined;
  }

  /** Pipes for one execution. Rejects when the folder or the file descriptors run out. */
  async take(): Promise<OutputPipes> {
    try {
      return await this.#open(this.#idle.pop() ?? (await this.#makePair()));
    } catch {
      // Somebody tidied the temporary folder: begin anew.
      if (this.#folder === undefined) throw new Error('The folder of pipes is closed: its program has stopped.');
      this.#idle.length = 0;
      await this.#makeFolder();
      return this.#open(await this.#makePair());
    }
  }

  async #open(paths: [string, string]): Promise<OutputPipes> {
    const opened: Pipe[] = [];
    const closeWriters = once(async () => void (await Promise.all(opened.map(({ writeFd }) => closeFd(writeFd)))));
    const release = once(async (isDrained: boolean) => {
      await closeWriters();
      for (const { reader } of opened) reader.destroy();
      if (isDrained && this.#folder !== undefined) this.#idle.push(paths);
      else await Promise.all(paths.map((path) => rm(path, { force: true })));
    });
    try {
      for (const path of paths) opened.push(await openBothEnds(path));
    } catch (error) {
      await release(false);
      throw error;
    }
    const [stdout, stderr] = opened as [Pipe, Pipe];
    return { stdout, stderr, closeWriters, release };
  }

  async #makeFolder(): Promise<void> {
    this.#folder = await mkdtemp(join(tmpdir(), `${this.#prefix}${process.pid}-`));
  }

  async #makePair(): Promise<[string, string]> {
    if (this.#folder === undefined) throw new Error('The folder of pipes is closed: its program has stopped.');
    const base = join(this.#folder, String(this.#count++));
    const paths: [string, string] = [`${base}.out`, `${base}.err`];
    await promisify(execFile)('mkfifo', ['-m', '600', ...paths]);
    return paths;
  }
}

/** `suffix`: a folder's name after its prefix, begins with the id of its process. */
function isOfDeadProcess(suffix: string): boolean {
  const pid = Number(/^(\d+)-/.exec(suffix)?.[1]);
  if (!(pid > 0)) return false;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

/** Opening the reading end first, without waiting, lets the writing end open at once. */
async function openBothEnds(path: string): Promise<Pipe> {
  const reading = await openFd(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const writeFd = await openFd(path, constants.O_WRONLY);
    return { reader: new Socket({ fd: reading, readable: true, writable: false }), writeFd };
  } catch (error) {
    await closeFd(reading);
    throw error;
  }
}

function once<A extends unknown[]>(run: (...args: A) => Promise<void>): (...args: A) => Promise<void> {
  let running: Promise<void> | undefined;
  return (...args) => (running ??= run(...args));
}
