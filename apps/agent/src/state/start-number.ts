/** Which start of the agent this is, by a number that grows with each, also when the clock was set back. */
import type { Logger } from '@carrierarr/platform';
import { StateFile } from './state-file.js';

interface Kept {
  number: number;
}

/** It is the time, epoch ms, unless that is not above the last one. Never rejects: without a folder it is the time alone. */
export async function nextStartNumber(folder: string, nowMs: number, logger: Logger): Promise<number> {
  const file = new StateFile<Kept>(folder, 'start.json');
  const last = (await file.read())?.number;
  const number = Number.isSafeInteger(last) ? Math.max(nowMs, (last as number) + 1) : nowMs;
  await file.write({ number }).catch((error: unknown) => {
    logger.warn({ err: error }, 'that the agent was started cannot be noted in the state folder');
  });
  return number;
}
