/** Finds out before a start why a program could not be started: bash would tell it by an exit code a program may use too. */
import { constants } from 'node:fs';
import { access, open, stat } from 'node:fs/promises';

/** Why it cannot be started: a shell's exit code (127 not found, 126 not executable), and what to do. */
export interface CannotExecute {
  code: 126 | 127;
  problem: string;
}

/** How to speak of the program: for a runner's script "The control script", "this runner", "Set --script to". */
export interface ProgramWords {
  what: string;
  where: string;
  /** What to do about a wrong path; "an executable file" follows. */
  set: string;
}

const SHEBANG_BYTES = 256;

/** Undefined if the program looks startable. `path` is absolute. */
export async function cannotExecute(path: string, words: ProgramWords): Promise<CannotExecute | undefined> {
  const program = `${words.what} ${path}`;
  const set = `${words.set} an executable file.`;
  try {
    if ((await stat(path)).isDirectory()) {
      return { code: 126, problem: `${program} is a folder. ${set}` };
    }
    await access(path, constants.X_OK);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      return { code: 127, problem: `${program} does not exist on ${words.where}. ${set}` };
    }
    if (code === 'EACCES') {
      return {
        code: 126,
        problem: `${program} is not executable for the user of ${words.where}. Run: chmod +x ${path}`,
      };
    }
    return { code: 126, problem: `${program} cannot be looked at: ${message}.` };
  }
  const interpreter = await interpreterOf(path);
  if (interpreter === undefined) return undefined;
  try {
    await access(interpreter, constants.X_OK);
    return undefined;
  } catch {
    return {
      code: 126,
      problem: `${program} begins with #!${interpreter}, which ${words.where} does not have. Install it, or change the first line.`,
    };
  }
}

async function interpreterOf(path: string): Promise<string | undefined> {
  // A program may be executable but not readable; then the kernel decides.
  const file = await open(path).catch(() => undefined);
  if (file === undefined) return undefined;
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(SHEBANG_BYTES), 0, SHEBANG_BYTES, 0);
    return /^#![ \t]*(\/\S+)/.exec(buffer.toString('utf8', 0, bytesRead))?.[1];
  } finally {
    await file.close();
  }
}
