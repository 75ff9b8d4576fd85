import {
  ARG_LENGTH_MAX,
  ARGS_MAX,
  argsSchema,
  clientIdSchema,
  isEverything,
  isPattern,
  TARGET_LENGTH_MAX,
  targetMatcher,
  targetPatternSchema,
  targetSchema,
  VERB_LENGTH_MAX,
  verbSchema,
} from '@carrierarr/protocol';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const accepts = (schema: { safeParse(value: unknown): { success: boolean } }, value: unknown) =>
  schema.safeParse(value).success;

describe('a target', () => {
  it.each([
    'worker-1',
    'default',
    'gpu 7 (Zürich)',
    '工作机',
    'a:b/c?d=e&f',
    'a.b',
    '-rf',
    '..',
    '"quoted"',
    'x'.repeat(TARGET_LENGTH_MAX),
  ])('may be called %j, as machines are', (name) => expect(accepts(targetSchema, name)).toBe(true));

  it.each([
    ['nothing', ''],
    ['a wildcard', 'gpu-*'],
    ['a hash tag', '{7}'],
    ['an unbalanced brace', 'a}b'],
    ['a line break', 'a\nb'],
    ['an escape sequence', '\u001b[2Ja'],
    ['NUL', 'a\0b'],
    ['a space at its end', 'a '],
    ['a space at its begin', ' a'],
    ['a bidirectional override', 'a\u202eb'],
    ['a lone surrogate', 'a\ud800'],
    ['too many characters', 'x'.repeat(TARGET_LENGTH_MAX + 1)],
    ['a number', 7],
    ['null', null],
  ])('may not be %s', (_, name) => expect(accepts(targetSchema, name)).toBe(false));
});

describe('a verb', () => {
  it.each(['start', 'kill', '_private', 'v1.2', 'db:migrate', 'a-b', '0', 'x'.repeat(VERB_LENGTH_MAX)])(
    'may be %j',
    (verb) => expect(accepts(verbSchema, verb)).toBe(true),
  );

  it.each([
    '',
    '-x',
    '--upload-pack',
    '@file',
    'a b',
    'a;b',
    '$(id)',
    '`id`',
    '../x',
    'a/b',
    'a\n',
    'ä',
    'x'.repeat(VERB_LENGTH_MAX + 1),
  ])('may not be %j', (verb) => expect(accepts(verbSchema, verb)).toBe(false));
});

describe('arguments', () => {
  it('may hold anything that argv can carry', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary', maxLength: 50 }), { maxLength: ARGS_MAX }), (args) => {
        expect(accepts(argsSchema, args)).toBe(args.every((arg) => !arg.includes('\0')));
      }),
    );
  });

  it('are bounded in number and length', () => {
    expect(accepts(argsSchema, Array(ARGS_MAX).fill('a'))).toBe(true);
    expect(accepts(argsSchema, Array(ARGS_MAX + 1).fill('a'))).toBe(false);
    expect(accepts(argsSchema, ['a'.repeat(ARG_LENGTH_MAX)])).toBe(true);
    expect(accepts(argsSchema, ['a'.repeat(ARG_LENGTH_MAX + 1)])).toBe(false);
  });
});

it('an idempotency id is printable ASCII without spaces', () => {
  for (const id of ['a', 'order-42', '~!@#', 'x'.repeat(128)]) expect(accepts(clientIdSchema, id)).toBe(true);
  for (const id of ['', 'a b', 'ä', 'a\n', 'x'.repeat(129)]) expect(accepts(clientIdSchema, id)).toBe(false);
});

describe('a target pattern', () => {
  it('is everything when it is empty or a lone star', () => {
    expect(['', '*'].map(isEverything)).toEqual([true, true]);
    expect(['**', 'a', 'a*'].map(isEverything)).toEqual([false, false, false]);
    expect(['a', 'a*', '*'].map(isPattern)).toEqual([false, true, true]);
  });

  it('may not hold what no target may', () => {
    for (const pattern of ['', '*', 'gpu-*', 'a b*']) expect(accepts(targetPatternSchema, pattern)).toBe(true);
    for (const pattern of ['{a}', 'a\n*', '*'.repeat(TARGET_LENGTH_MAX + 1)])
      expect(accepts(targetPatternSchema, pattern)).toBe(false);
  });

  it('matches as if each star were any run of characters', () => {
    // Few letters, so that stars have much to choose from. The reference tries every split: slow, but plainly right.
    const matches = (pattern: string, text: string): boolean => {
      if (pattern === '') return text === '';
      if (pattern[0] !== '*') return pattern[0] === text[0] && matches(pattern.slice(1), text.slice(1));
      for (let skip = 0; skip <= text.length; skip++) if (matches(pattern.slice(1), text.slice(skip))) return true;
      return false;
    };
    const word = (letters: string[], maxLength: number) => fc.string({ unit: fc.constantFrom(...letters), maxLength });
    fc.assert(
      fc.property(word(['a', 'b', '*'], 7), word(['a', 'b'], 9), (pattern, target) => {
        expect(targetMatcher(pattern)(target)).toBe(isEverything(pattern) || matches(pattern, target));
      }),
      { numRuns: 5_000 },
    );
  });

  it('takes characters that mean something in regular expressions as they are', () => {
    const matches = targetMatcher('a.c(*)[x]+');
    expect(matches('a.c(1)[x]+')).toBe(true);
    expect(matches('abc(1)[x]+')).toBe(false);
  });

  it('is fast also when it is made to be slow', () => {
    const matches = targetMatcher('a*'.repeat(99) + 'b');
    const began = performance.now();
    for (let i = 0; i < 1_000; i++) matches('a'.repeat(TARGET_LENGTH_MAX));
    expect(performance.now() - began).toBeLessThan(1_000);
  });
});
