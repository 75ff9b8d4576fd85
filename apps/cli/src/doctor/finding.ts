/** What a check of `carrierarr doctor` found. */

export const LEVELS = ['ok', 'warn', 'fail', 'skip'] as const;
export type Level = (typeof LEVELS)[number];

export interface Finding {
  readonly level: Level;
  /** What was seen, as a sentence. Secrets in it are masked before anybody reads it. */
  readonly seen: string;
  /** What to do about it. */
  readonly advice?: string;
}

export const ok = (seen: string): Finding => ({ level: 'ok', seen });
/** It works, and will hurt some day. */
export const warn = (seen: string, advice: string): Finding => ({ level: 'warn', seen, advice });
/** Something does not work, or data can be lost. */
export const fail = (seen: string, advice: string): Finding => ({ level: 'fail', seen, advice });
/** There was nothing to look at, or it could not be seen. */
export const skip = (seen: string, advice?: string): Finding => ({
  level: 'skip',
  seen,
  ...(advice !== undefined && { advice }),
});
