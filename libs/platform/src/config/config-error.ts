/**
 * A configuration that cannot be used. It carries every problem at once, so that a user fixes them in one go, and never
 * the value of a secret, because its text ends up in terminals and logs.
 */
import { printable } from '../printable.js';
import { redactUrl } from '../redact.js';
import type { ResolvedKey } from './schema.js';

export interface ConfigProblem {
  /** Key in the schema; null when the problem belongs to none (an unknown flag). */
  readonly key: string | null;
  /** One or two sentences: what was received, and what to do. */
  readonly message: string;
}

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly code = 'config_invalid';
  readonly program: string;
  readonly problems: readonly ConfigProblem[];

  constructor(program: string, problems: readonly ConfigProblem[]) {
    const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`;
    const lines = problems.map(({ message }) => `  - ${message}`);
    super(
      `${program} cannot start, ${count} in its configuration:\n${lines.join('\n')}\n` +
        `\`${program} --help\` lists every flag, its environment variable and what it allows.`,
    );
    this.program = program;
    this.problems = problems;
  }
}

/** Where a value came from, as the user knows it. */
export type Origin =
  | { readonly kind: 'flag'; readonly name: string }
  | { readonly kind: 'environment'; readonly name: string }
  | { readonly kind: 'file'; readonly name: string; readonly path: string };

/** "`--poll` (CARRIERARR_POLL)": the place that was used first, then the other ways to set the same key. */
export function nameOf({ flag, env }: ResolvedKey, origin: Origin): string {
  const flagName = flag === null ? null : `\`--${flag}\``;
  if (origin.kind === 'flag') return withOthers(`\`${origin.name}\``, [env]);
  if (origin.kind === 'environment') return withOthers(origin.name, [flagName]);
  return withOthers(`\`${origin.name}\` in ${origin.path}`, [flagName, env]);
}

function withOthers(first: string, others: readonly (string | null)[]): string {
  const known = others.filter((other) => other !== null);
  return known.length === 0 ? first : `${first} (${known.join(', ')})`;
}

/** A received value fit for an error message: bounded, on one line, without passwords. */
export function quote(value: unknown, secret: boolean): string {
  if (secret) return 'a value that is not shown because it is a secret';
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
  if (text === '') return 'an empty value';
  // A broken URL (redis//user:password@host) cannot be parsed, so everything before its last @ goes.
  const safe = redactUrl(text).replace(/^([a-z][a-z0-9+.-]*:\/*)?(.*)@/is, '$1***@');
  const oneLine = printable(safe);
  return `\`${oneLine.length > 200 ? `${oneLine.slice(0, 200)}...` : oneLine}\``;
}

export function badValue(key: ResolvedKey, origin: Origin, value: unknown): ConfigProblem {
  const got = quote(value, key.secret);
  return { key: key.key, message: `Expected ${nameOf(key, origin)} to be ${key.allowed}, got ${got}.` };
}
