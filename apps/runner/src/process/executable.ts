/** Finds out before a start why a script could not be started: bash would tell it by an exit code a script may use too. */
import { constants } from 'node:fs';
import { access, open, stat } from 'node:fs/promises';

/** Why it cannot be started: a shell's exit code (127 not found, 126 not executable), and what to do. */
export interface CannotExecute {
  code: 126 | 127;
  problem: string;
}

const SHEBANG_BYTES = 256;

/** Undefined if the script looks startable. `path` is absolute. */
export async function cannotExecute(path: string): Promise<CannotExecute | undefined> {
  const script = `The control script ${path}`;
  try {
    if ((await stat(path)).isDirectory()) {
      return { code: 126, problem: `${script} is a folder. Set --script to an executable file.` };
    }
    await access(path, constants.X_OK);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      return { code: 127, problem: `${script} does not exist on this runner. Set --script to an executable file.` };
    }
    if (code === 'EACCES') {
      return { code: 126, problem: `${script} is not executable for the runner's user. Run: chmod +x ${path}` };
    }
    return { code: 126, problem: `${script} cannot be looked at: ${message}.` };
  }
  const interpreter = await interpreterOf(path);
  if (interpreter === undefined) return undefined;
  try {
    await access(interpreter, constants.X_OK);
    return undefined;
  } catch {
    return {
      code: 126,
      problem: `${script} begins with #!${interpreter}, which this runner does not have. Install it, or change the first line.`,
    };
  }
}

async function interpreterOf(path: string): Promise<string | undefined> {
  // A script may be executable but not readable; then the kernel decides.
  const file = await open(path).catch(() => undefined);
  if (file === undefined) return undefined;
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(SHEBANG_BYTES), 0, SHEBANG_BYTES, 0);
    return /^#![ \t]*(\/\S+)/.exec(buffer.toString('utf8', 0, bytesRead))?.[1];
  } finally {
    await file.close();
  }
}
