/** What a command does: a program, or something that the agent does itself. */
import type { StreamLetter } from '@carrierarr/protocol';

export interface WorkOutput {
  /** Bytes as they come. */
  bytes(stream: StreamLetter, chunk: Buffer): void;
  /** No more of this stream: an unfinished line counts as one. */
  end(stream: StreamLetter): void;
}

/** Work that has begun. */
export interface Work {
  /** Exit code, as soon as it is known. `problem`: what went wrong, for work that has no output to say so. */
  readonly exited: Promise<{ code: number; problem?: string }>;
  /** Resolves if it was ended because this process froze. */
  readonly abandoned?: Promise<void>;
  /** To be called once, after `exited`: resolves when nothing of it is left and its output has been handed over. */
  finish(): Promise<void>;
  /** Once a second. */
  beat(): void;
  terminate(graceMs: number): void;
  kill(): void;
  pause(): void;
  resume(): void;
}

/** It cannot be done, and has not begun. */
export class Refusal extends Error {
  override name = 'Refusal';
  /** As a shell has it: 126 may not or cannot be run, 127 is not there. */
  readonly exitCode: number;

  constructor(message: string, exitCode = 126) {
    super(message);
    this.exitCode = exitCode;
  }
}
