import {
  clientMessageSchema,
  CLOSE_CODES,
  closeCodeOf,
  documentedMessages,
  type ErrorCode,
  ERRORS,
  isErrorCode,
  SERVER_MESSAGES,
} from '@carrierarr/protocol';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const accepts = (message: unknown) => clientMessageSchema.safeParse(message).success;

describe('messages that existing clients send', () => {
  it.each([
    { type: 'command', command: 'start' },
    { type: 'command', command: 'start', target: '' },
    { type: 'command', command: 'start', target: null },
    { type: 'command', command: 'start', target: 'worker-1', args: [] },
    { type: 'command', command: 'start', target: 'worker-1', args: null },
    { type: 'command', command: 'logs', target: 'worker-1', args: ['-n', '10', '', 'a b'] },
    { type: 'command', command: 'kill', target: 'worker-1' },
    { type: 'subscribe' },
    { type: 'subscribe', target: '' },
    { type: 'subscribe', target: null },
    { type: 'subscribe', target: '*' },
    { type: 'subscribe', target: 'worker-1' },
    { type: 'ping' },
  ])('are accepted and understood as they are: %j', (message) => {
    expect(clientMessageSchema.parse(message)).toEqual(message);
  });

  it('may have fields that nobody knows', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.stringMatching(/^x_[a-z]{1,8}$/), fc.jsonValue(), { noNullPrototype: true }),
        (more) => {
          expect(clientMessageSchema.parse({ type: 'ping', ...more })).toEqual({ type: 'ping' });
          expect(clientMessageSchema.parse({ type: 'command', command: 'start', ...more })).toEqual({
            type: 'command',
            command: 'start',
          });
        },
      ),
    );
  });
});

describe('messages that nobody should send', () => {
  it('are refused, never an exception', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        // These need no other field.
        const type = (value as { type?: unknown } | null)?.type;
        fc.pre(type !== 'ping' && type !== 'subscribe' && type !== 'unsubscribe');
        expect(accepts(value)).toBe(false);
      }),
    );
  });

  it.each([
    { type: 'command' },
    { type: 'command', command: '' },
    { type: 'command', command: '-x' },
    { type: 'command', command: ['start'] },
    { type: 'command', command: 'start', args: 'a' },
    { type: 'command', command: 'start', args: [1] },
    { type: 'command', command: 'start', args: ['a\0b'] },
    { type: 'command', command: 'start', timeout_seconds: 0 },
    { type: 'command', command: 'start', timeout_seconds: '10' },
    { type: 'command', command: 'start', id: 'a b' },
    { type: 'subscribe', target: 'a\nb' },
    { type: 'subscribe', target: 'a', tail: -1 },
    { type: 'subscribe', target: 'a', tail: 1e9 },
    { type: 'subscribe', target: 'a', since: { offset: 3 } },
    { type: 'subscribe', target: 'a', since: { time: 'yesterday' } },
    { type: 'subscribe', target: 'a', positions: { a: { epoch: 'x', offset: -1 } } },
    { type: 'authenticate' },
    { type: 'stdout', data: 'x' },
    { type: 'PING' },
  ])('such as %j', (message) => expect(accepts(message)).toBe(false));
});

it('what is new is accepted where it is asked for', () => {
  for (const message of [
    { type: 'command', command: 'start', id: 'a', timeout_seconds: 0.5, idempotent: true },
    { type: 'subscribe', target: 'gpu-*', tail: 0, offsets: true, batch: true, notices: true },
    { type: 'subscribe', target: 'a', since: { epoch: '', offset: 0 } },
    { type: 'subscribe', since: { time: '2026-11-22T10:15:00+01:00' }, positions: { a: { epoch: 'x', offset: 7 } } },
    { type: 'unsubscribe', target: null },
    { type: 'authenticate', token: 't' },
  ]) {
    expect(clientMessageSchema.parse(message)).toEqual(message);
  }
});

describe('documented messages', () => {
  const { client, server } = documentedMessages();

  it('are all there are', () => {
    expect(client.map(({ type }) => type)).toEqual(
      clientMessageSchema.options.map((option) => option.shape.type.value),
    );
    expect(server.map(({ type }) => type)).toEqual(Object.keys(SERVER_MESSAGES));
  });

  it.each(client)('have true examples: $type', ({ type, examples }) => {
    for (const example of examples) expect(clientMessageSchema.parse(example)).toStrictEqual({ ...example, type });
  });

  it.each(server)('have true examples: $type', ({ type, examples }) => {
    const { schema } = SERVER_MESSAGES[type as keyof typeof SERVER_MESSAGES];
    // Equal, so a field that the schema does not know fails too.
    for (const example of examples) expect(schema.parse(example)).toStrictEqual({ ...example, type });
  });

  it('say how to get what old clients must not get', () => {
    for (const { type, optIn, askedBy } of server) expect([type, askedBy !== undefined]).toEqual([type, optIn]);
  });

  it('have a description each', () => {
    for (const { type, description } of [...client, ...server])
      expect([type, description]).not.toEqual([type, 'undefined']);
  });
});

describe('the table of errors', () => {
  const codes = Object.keys(ERRORS) as ErrorCode[];

  it('closes connections with codes that are explained', () => {
    for (const code of codes) expect(Object.keys(CLOSE_CODES)).toContain(String(closeCodeOf(code)));
  });

  it('tells what is retryable from what is not by the status too', () => {
    const isRetryable = (code: ErrorCode) => ERRORS[code].retryable;
    const isPassing = (code: ErrorCode) => ERRORS[code].http === 503 || ERRORS[code].http === 429;
    expect(codes.filter((code) => isPassing(code) && !isRetryable(code))).toEqual([]);
    expect(codes.filter((code) => ERRORS[code].http < 500 && !isPassing(code) && isRetryable(code))).toEqual([]);
  });

  it('knows its codes, and nothing that every object has', () => {
    expect(codes.every(isErrorCode)).toBe(true);
    expect(['constructor', 'toString', '__proto__', ''].some(isErrorCode)).toBe(false);
  });
});
