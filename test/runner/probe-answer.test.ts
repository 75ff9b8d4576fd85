import { expect, it } from 'vitest';
import { ANSWER_BYTES_MAX, ProbeAnswer } from '../../apps/runner/src/probe-answer.js';

const answerOf = (...blocks: ['o' | 'e', string][]) => {
  const answer = new ProbeAnswer();
  for (const [stream, text] of blocks) answer.take({ stream, body: Buffer.from(text) });
  return answer.text;
};

it('the answer is the last line of standard output, whatever comes on standard error', () => {
  expect(answerOf(['o', 'one\ntwo'], ['e', 'oops'], ['o', 'three\n{"state":"running"}'], ['e', 'x\ny'])).toBe(
    '{"state":"running"}',
  );
  expect(answerOf(['e', 'only errors'])).toBeUndefined();
  expect(answerOf(['o', 'one\n'])).toBe('');
});

it('a long answer is cut at a character', () => {
  const cut = answerOf(['o', 'é'.repeat(ANSWER_BYTES_MAX)]);
  expect(cut).toBe('é'.repeat(ANSWER_BYTES_MAX / 2));
  expect(answerOf(['o', `x${'é'.repeat(ANSWER_BYTES_MAX)}`])).toBe(`x${'é'.repeat(ANSWER_BYTES_MAX / 2 - 1)}`);
});
