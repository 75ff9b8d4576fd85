import { describe, expect, it } from 'vitest';
import { Redactor } from '../../../libs/execution/src/output/redact.js';

function redacted(text: string, ...secrets: string[]) {
  const { body, count } = new Redactor(secrets).redact(Buffer.from(text));
  return [body.toString(), count];
}

describe('Redactor', () => {
  it('replaces every place of every secret', () => {
    expect(redacted('a secret1 b secret22\nsecret1', 'secret1', 'secret22')).toEqual(['a *** b ***\n***', 3]);
  });

  it('returns the same buffer when there is nothing to hide', () => {
    const body = Buffer.from('nothing here');
    expect(new Redactor(['secret1']).redact(body).body).toBe(body);
    expect(new Redactor([]).redact(body).body).toBe(body);
  });

  it('leaves no rest of overlapping secrets', () => {
    expect(redacted('xabcdefghix', 'abcdef', 'defghi')).toEqual(['x***x', 1]);
    expect(redacted('xaaaaaaaax', 'aaaaaa')).toEqual(['x***x', 1]);
    expect(redacted('long-password', 'long-password', 'password')).toEqual(['***', 1]);
  });

  it('looks for a secret of several lines line by line, and not for short parts', () => {
    const pem = '-----BEGIN KEY-----\nMIIEvQIB\r\nab\n-----END KEY-----\n';
    expect(redacted('x MIIEvQIB y ab', pem)).toEqual(['x *** y ab', 1]);
    expect(redacted('abc', 'abc')).toEqual(['abc', 0]);
  });
});
