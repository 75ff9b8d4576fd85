/**
 * Keeps a second agent out of a state folder: both would take the same commands for theirs, and each would run what the
 * other has run. The lock is a socket in the folder on which the agent listens, so it ends with the process, however that
 * ends. What a dead one left is taken over; two that do so in the same moment might both succeed.
 */
import { once } from 'node:events';
import { type FileHandle, mkdir, open, rm } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { unusableFolder } from './state-file.js';

const NAME = 'lock';

/** Another agent has the folder. */
export class FolderTakenError extends Error {
  override name = 'FolderTakenError';
}

export class StateLock {
  readonly #folder: string;
  #taking: Promise<void> | undefined;
  #server: Server | undefined;
  #handle: FileHandle | undefined;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Takes it, unless it is held. Rejects if another agent has it ({@link FolderTakenError}), or the folder cannot be used,
   * which may pass: it can be tried again.
   */
  take(): Promise<void> {
    if (this.#server !== undefined) return Promise.resolve();
    this.#taking ??= this.#take().finally(() => (this.#taking = undefined));
    return this.#taking;
  }

  async #take(): Promise<void> {
    try {
      await mkdir(this.#folder, { recursive: true, mode: 0o700 });
      this.#server = (await this.#listen()) ?? (await this.#takeOver());
    } catch (cause) {
      await this.release();
      throw unusableFolder(this.#folder, cause as Error);
    }
    if (this.#server !== undefined) return;
    await this.release();
    const message =
      `Another agent that runs here has the state folder ${this.#folder}. Each needs one of its own: ` +
      'stop the other, or name another folder with --state-dir.';
    throw new FolderTakenError(message);
  }

  async release(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    // The socket goes with it.
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
    await this.#handle?.close();
    this.#handle = undefined;
  }

  /** Undefined if there is a socket already. */
  async #listen(): Promise<Server | undefined> {
    const server = createServer((socket) => socket.destroy());
    try {
      await once(server.listen(await this.#path()), 'listening');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return undefined;
      throw error;
    }
    return server.unref();
  }

  /** Undefined if somebody listens there. */
  async #takeOver(): Promise<Server | undefined> {
    if (await isServed(await this.#path())) return undefined;
    await rm(await this.#path(), { force: true });
    return this.#listen();
  }

  /** Names of sockets hold about 100 bytes, which a path may exceed; Linux has a short name for an open folder. */
  async #path(): Promise<string> {
    if (process.platform !== 'linux') return join(this.#folder, NAME);
    this.#handle ??= await open(this.#folder, 'r');
    return `/proc/self/fd/${this.#handle.fd}/${NAME}`;
  }
}

async function isServed(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ECONNREFUSED' || code === 'ENOENT') return false;
    throw error;
  } finally {
    socket.destroy();
  }
}
