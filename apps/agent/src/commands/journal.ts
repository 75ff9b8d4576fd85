/**
 * Which commands this agent has seen and what became of them, on disk: a command runs once however often it is sent, also
 * if the agent died meanwhile, and a result outlives an outage.
 *
 * One file of JSON lines that is only appended to, and written anew when it has grown. A line counts once it is synced;
 * one that was cut off by a crash is ignored: what it would have allowed has not happened yet. After a write that failed
 * (a full disk) the file may end in half a line, to which the next would be glued: it is written anew before that.
 *
 * Bounds: results that are not delivered by number and bytes, the oldest dropped; ids of delivered ones by number.
 */
import { mkdir, open, readFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { CommandResult } from '@carrierarr/protocol/agent-control';
import { unusableFolder, writeWhole } from '../state/state-file.js';

/** A command that was taken. */
export interface SeenCommand {
  id: string;
  fence: number;
  /** Epoch ms. */
  seenMs: number;
  /** Present once it has ended. */
  result?: CommandResult;
  /** The control plane has the result; what it wrote is not kept. */
  isDelivered?: boolean;
}

type Line =
  | { kind: 'seen'; id: string; fence: number; ms: number }
  | { kind: 'ended'; result: CommandResult }
  | { kind: 'delivered'; id: string };

export interface JournalOptions {
  folder: string;
  resultsMax: number;
  resultBytesMax: number;
  /** Resolves when the folder is this agent's alone: nothing is written before. */
  hold: () => Promise<void>;
  /** A result was dropped though nobody has got it. */
  onDropped: (command: SeenCommand) => void;
}

const FILE = 'commands.jsonl';
/** Delivered commands whose ids are kept. Control planes repeat a command only until they have its result. */
const DELIVERED_MAX = 1_000;
const APPENDED_MAX = 10_000;

export class Journal {
  readonly #o: JournalOptions;
  /** In the order in which they were seen. */
  readonly #commands = new Map<string, SeenCommand>();
  #file: FileHandle | undefined;
  #appended = 0;
  #resultBytes = 0;
  /** One write after the other. */
  #writing: Promise<void> = Promise.resolve();
  #nextWrite: Promise<void> | undefined;
  readonly #pending: Line[] = [];
  /** What is in the file is not all that is known, or half a line. */
  #isTorn = false;
  #isClosed = false;
  /** What earlier lives left is known. Before, nothing may begin, and the file is left alone. */
  #isRead = false;
  /** Seen by earlier lives of the agent, and not ended by them. */
  #left: SeenCommand[] = [];
  #problem: Error | undefined;

  constructor(options: JournalOptions) {
    this.#o = options;
  }

  /** Bytes of results that are not delivered, about. */
  get resultBytes(): number {
    return this.#resultBytes;
  }

  /** Why nothing can be noted now, as of the last attempt. */
  get problem(): Error | undefined {
    return this.#problem;
  }

  /** Whether it is known what earlier lives of the agent have seen. Before, nothing can be said of any command. */
  get isRead(): boolean {
    return this.#isRead;
  }

  find(id: string): SeenCommand | undefined {
    return this.#commands.get(id);
  }

  /** Ended, and not delivered. */
  undelivered(): SeenCommand[] {
    return [...this.#commands.values()].filter(({ result, isDelivered }) => result !== undefined && !isDelivered);
  }

  /** Left unended by an earlier life of the agent, and not ended since. What this life has begun is not among them. */
  unended(): SeenCommand[] {
    this.#left = this.#left.filter(isUnended);
    return [...this.#left];
  }

  /**
   * Reads what is there. Never rejects. As long as there is a {@link problem}, {@link see} rejects, and what is delivered or
   * ends is known to this process only.
   */
  async open(): Promise<void> {
    await this.repair().catch(() => undefined);
  }

  /** Tries again after a {@link problem}. Rejects while it lasts. One at a time, or the file might be read twice. */
  async repair(): Promise<void> {
    if (!this.#isRead) await this.#load();
    await this.#append();
  }

  async #load(): Promise<void> {
    const { folder } = this.#o;
    let text: string;
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      text = await readFile(join(folder, FILE), 'utf8').catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return '';
        throw error;
      });
    } catch (error) {
      this.#problem = unusableFolder(folder, error as Error);
      throw this.#problem;
    }
    this.#isRead = true;
    for (const line of text.split('\n')) this.#read(line);
    // Now, before anything of this life can be among them.
    this.#left = [...this.#commands.values()].filter(isUnended);
    this.#keepBounds();
  }

  async close(): Promise<void> {
    await this.#writing.catch(() => undefined);
    await this.#file?.close();
    this.#file = undefined;
    this.#isClosed = true;
  }

  /** Resolves once it is on the disk: only then may the command begin. Rejects if it cannot be, and forgets it. */
  see(id: string, fence: number, nowMs: number): Promise<void> {
    if (!this.#isRead) return Promise.reject(this.#problem ?? new Error('The journal of commands is not open yet.'));
    // Of an earlier start of the same: nobody waits for that result any more.
    const before = this.#commands.get(id);
    if (before !== undefined && !before.isDelivered) this.#setDelivered(before);
    this.#commands.set(id, { id, fence, seenMs: nowMs });
    return this.#append({ kind: 'seen', id, fence, ms: nowMs });
  }

  /** Resolves once it is on the disk. */
  end(result: CommandResult): Promise<void> {
    this.#setResult(result);
    this.#keepBounds();
    return this.#append({ kind: 'ended', result });
  }

  /** The control plane has it. */
  async deliver(id: string): Promise<void> {
    const command = this.#commands.get(id);
    if (command === undefined || command.isDelivered) return;
    this.#setDelivered(command);
    this.#keepBounds();
    await this.#append({ kind: 'delivered', id });
  }

  #read(text: string): void {
    let line: Line;
    try {
      line = JSON.parse(text) as Line;
    } catch {
      return; // The last one, cut off.
    }
    if (line.kind === 'seen') this.#commands.set(line.id, { id: line.id, fence: line.fence, seenMs: line.ms });
    else if (line.kind === 'ended') this.#setResult(line.result);
    else {
      const command = this.#commands.get(line.id);
      if (command !== undefined) this.#setDelivered(command);
    }
  }

  #setResult(result: CommandResult): void {
    const command = this.#commands.get(result.commandId);
    if (command === undefined || command.result !== undefined) return;
    command.result = result;
    this.#resultBytes += bytesOf(result);
  }

  #setDelivered(command: SeenCommand): void {
    command.isDelivered = true;
    if (command.result === undefined) return;
    this.#resultBytes -= bytesOf(command.result);
    command.result = { ...command.result, stdout: '', stderr: '' };
  }

  #keepBounds(): void {
    const { resultsMax, resultBytesMax, onDropped } = this.#o;
    const waiting = this.undelivered();
    while (waiting.length > resultsMax || (waiting.length > 1 && this.#resultBytes > resultBytesMax)) {
      const oldest = waiting.shift() as SeenCommand;
      onDropped({ ...oldest });
      this.#setDelivered(oldest);
    }
    const delivered = [...this.#commands.values()].filter(({ isDelivered }) => isDelivered);
    for (const { id } of delivered.slice(0, Math.max(0, delivered.length - DELIVERED_MAX))) this.#commands.delete(id);
  }

  /** Lines that come while others are being written share the next write. Without one it only sees to it that all is written. */
  #append(...lines: Line[]): Promise<void> {
    this.#pending.push(...lines);
    this.#nextWrite ??= this.#writing
      .catch(() => undefined)
      .then(() => {
        this.#nextWrite = undefined;
        return this.#flush();
      });
    this.#writing = this.#nextWrite;
    return this.#nextWrite;
  }

  async #flush(): Promise<void> {
    const lines = this.#pending.splice(0);
    try {
      await this.#write(lines);
      this.#problem = undefined;
    } catch (error) {
      this.#problem = error as Error;
      this.#isTorn = true;
      // They will not begin, so the next writing must not have them: as if they had never been sent.
      for (const line of lines) if (line.kind === 'seen') this.#commands.delete(line.id);
      throw error;
    }
  }

  async #write(lines: readonly Line[]): Promise<void> {
    if (this.#isClosed) throw new Error('The journal of commands is closed.');
    await this.#o.hold();
    if (this.#file === undefined || this.#isTorn || this.#appended + lines.length > APPENDED_MAX)
      return this.#rewrite();
    if (lines.length === 0) return;
    await this.#file.appendFile(textOf(lines));
    await this.#file.datasync();
    this.#appended += lines.length;
  }

  /** What is known now includes the lines that would have been appended. */
  async #rewrite(): Promise<void> {
    const path = join(this.#o.folder, FILE);
    const lines = [...this.#commands.values()].flatMap(({ id, fence, seenMs, result, isDelivered }): Line[] => [
      { kind: 'seen', id, fence, ms: seenMs },
      ...(result === undefined ? [] : [{ kind: 'ended' as const, result }]),
      ...(isDelivered ? [{ kind: 'delivered' as const, id }] : []),
    ]);
    await writeWhole(path, textOf(lines));
    const former = this.#file;
    this.#file = undefined;
    await former?.close();
    this.#file = await open(path, 'a', 0o600);
    this.#appended = 0;
    this.#isTorn = false;
  }
}

function isUnended({ result, isDelivered }: SeenCommand): boolean {
  return result === undefined && !isDelivered;
}

function textOf(lines: readonly Line[]): string {
  return lines.map((line) => `${JSON.stringify(line)}\n`).join('');
}

const OVERHEAD_BYTES = 200;

function bytesOf({ stdout, stderr, error }: CommandResult): number {
  return stdout.length + stderr.length + error.length + OVERHEAD_BYTES;
}
