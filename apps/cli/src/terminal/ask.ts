/** A question on the terminal. Lines are read as they are typed and entered, so Ctrl-C stays a signal. */
import { createInterface } from 'node:readline';
import type { Host } from '../host.js';

/** True if a person can be asked: somebody reads standard error and types at standard input. */
export function canAsk({ stdin, stderr }: Host): boolean {
  return stdin.isTTY === true && stderr.isTTY === true;
}

/** What was entered, in lower case without spaces around; empty when the input ended. */
export async function ask(host: Host, question: string): Promise<string> {
  host.stderr.write(question);
  const input = createInterface({ input: host.stdin, terminal: false });
  try {
    return await new Promise((resolve) => {
      input.once('line', (line) => resolve(line.trim().toLowerCase()));
      input.once('close', () => resolve(''));
    });
  } finally {
    input.close();
    host.stdin.pause();
  }
}
