/** Looks with one check after the other. Nothing a check does can end the examination, or make it hang. */
import { redactUrl } from '@carrierarr/platform/light';
import { deferred } from '../deferred.js';
import { type Check, type Means, Unseen } from './check.js';
import { fail, type Finding, skip } from './finding.js';
import type { Mask } from './mask.js';

export interface Report extends Finding {
  readonly check: string;
}

/** Each finding as it is made; none holds a secret. */
export async function* examine(checks: readonly Check[], means: Means, mask: Mask): AsyncGenerator<Report> {
  for (const check of checks) {
    for (const { level, seen, advice } of await findingsOf(check, means)) {
      const text = { seen: mask(redactUrl(seen)), ...(advice !== undefined && { advice: mask(redactUrl(advice)) }) };
      yield { check: check.name, level, ...text };
    }
  }
}

async function findingsOf(check: Check, means: Means): Promise<readonly Finding[]> {
  const missing = check.missing(means);
  if (missing !== undefined) return [skip(`Not looked at: ${missing}.`)];
  const limitMs = means.config.timeout + (check.extraMs?.(means) ?? 0);
  const late = deferred<readonly Finding[]>();
  const timer = means.clock.setTimeout(() => late.resolve([lateAfter(limitMs)]), limitMs);
  try {
    return await Promise.race([check.look(means), late.promise]);
  } catch (error) {
    if (error instanceof Unseen) return [skip(`Not looked at: ${error.message}.`)];
    return [fail(`It failed: ${messageOf(error)}`, 'Put that right, then run it again.')];
  } finally {
    timer.cancel();
  }
}

function lateAfter(limitMs: number): Finding {
  return fail(
    `It was not done after ${limitMs / 1000} s.`,
    'Look at the network in between, or give it more time with --timeout.',
  );
}

/** Some errors of sockets have nothing to say but their code. */
function messageOf(error: unknown): string {
  const { message, code, name } = error as Partial<NodeJS.ErrnoException>;
  return message || code || name || String(error);
}
