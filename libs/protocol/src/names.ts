/**
 * What may be a target, a verb, an argument, a client-chosen id.
 *
 * Arguments are data: they reach the control script as argv and never a shell, so their content is free but for
 * NUL (which argv cannot carry). Verbs are names chosen by the script's author. Targets are names that people give
 * machines (an EC2 `Name` tag may hold spaces and letters of any language), so only what would break a key, a
 * pattern or a terminal is refused: control characters, braces (Redis Cluster hash tags) and `*` (the wildcard).
 */
import { z } from 'zod';

/** The target of a message that names none (old clients). */
export const DEFAULT_TARGET = 'default';
/** Longest target name, in UTF-16 code units. */
export const TARGET_LENGTH_MAX = 200;
/** Longest verb, in characters. */
export const VERB_LENGTH_MAX = 64;
/** Most arguments of one command. */
export const ARGS_MAX = 64;
/** Longest single argument, in UTF-16 code units. */
export const ARG_LENGTH_MAX = 8192;

const TARGET = /^[^\p{C}*{}]+$/u;
const VERB = /^[A-Za-z0-9_][A-Za-z0-9_.:-]*$/;
const CLIENT_ID = /^[\x21-\x7e]+$/;

export const targetSchema = z
  .string()
  .min(1, 'a target must not be empty')
  .max(TARGET_LENGTH_MAX, `a target has at most ${TARGET_LENGTH_MAX} characters`)
  .regex(TARGET, 'a target must not contain control characters, *, { or }')
  .refine((s) => s.trim() === s, 'a target must not begin or end with a space')
  .meta({ description: 'Name of a worker; the key of its queue, its output and its lock.' });

export const verbSchema = z
  .string()
  .min(1, 'a command must not be empty')
  .max(VERB_LENGTH_MAX, `a command has at most ${VERB_LENGTH_MAX} characters`)
  .regex(VERB, 'a command is letters, digits, _ . : - and does not begin with a dash')
  .meta({ description: 'Verb passed to the control script as its first argument.' });

export const argsSchema = z
  .array(
    z
      .string()
      .max(ARG_LENGTH_MAX, `an argument has at most ${ARG_LENGTH_MAX} characters`)
      .refine((s) => !s.includes('\0'), 'an argument must not contain NUL'),
  )
  .max(ARGS_MAX, `a command has at most ${ARGS_MAX} arguments`)
  .meta({ description: 'Further arguments of the control script; passed as argv, never through a shell.' });

/** An idempotency id chosen by a client: 1 to 128 printable ASCII characters without spaces. */
export const clientIdSchema = z
  .string()
  .min(1)
  .max(128, 'an id has at most 128 characters')
  .regex(CLIENT_ID, 'an id is printable ASCII without spaces')
  .meta({
    description: 'Idempotency id: a repeat by the same subject for the same target returns the first execution.',
  });

/** `*` anywhere in a subscription's target makes it a pattern; it matches any run of characters, also an empty one. */
export const targetPatternSchema = z
  .string()
  .max(TARGET_LENGTH_MAX, `a target pattern has at most ${TARGET_LENGTH_MAX} characters`)
  .regex(/^[^\p{C}{}]*$/u, 'a target pattern must not contain control characters, { or }')
  .meta({ description: 'A target, or a pattern with `*`; empty or `*` means every target.' });

/** True if `pattern` means every target. */
export function isEverything(pattern: string): boolean {
  return pattern === '' || pattern === '*';
}

/** True if `pattern` has a wildcard (and so may match more than one target). */
export function isPattern(pattern: string): boolean {
  return pattern.includes('*');
}

/**
 * Compiles a target pattern to a predicate. Linear in the target's length for every pattern (greedy matching of the
 * literal pieces), so a hostile pattern cannot make it slow, as a regular expression could.
 */
export function targetMatcher(pattern: string): (target: string) => boolean {
  if (isEverything(pattern)) return () => true;
  if (!isPattern(pattern)) return (target) => target === pattern;
  const pieces = pattern.split('*');
  const head = pieces[0] ?? '';
  const tail = pieces.at(-1) ?? '';
  const middle = pieces.slice(1, -1).filter((piece) => piece !== '');
  return (target) => {
    if (target.length < head.length + tail.length || !target.startsWith(head) || !target.endsWith(tail)) return false;
    let at = head.length;
    const end = target.length - tail.length;
    for (const piece of middle) {
      const found = target.indexOf(piece, at);
      if (found < 0 || found + piece.length > end) return false;
      at = found + piece.length;
    }
    return true;
  };
}
