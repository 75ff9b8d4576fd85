import { createLogger, redactUrl } from '@carrierarr/platform';
import { describe, expect, it } from 'vitest';

function captured(format: 'json' | 'pretty', level = 'info') {
  const lines: string[] = [];
  const logger = createLogger({
    program: 'gateway',
    level,
    format,
    destination: { write: (line) => void lines.push(line) },
  });
  return { logger, lines, last: () => JSON.parse(lines.at(-1) ?? '{}') as Record<string, unknown> };
}

describe('the logger', () => {
  it('writes JSON lines with time, level and program', () => {
    const { logger, last } = captured('json');
    logger.info({ target: 'worker-1' }, 'hello');
    expect(last()).toEqual({
      level: 'info',
      time: expect.stringMatching(/^\d{4}-.*Z$/) as unknown,
      program: 'gateway',
      target: 'worker-1',
      msg: 'hello',
    });
  });

  it('keeps quiet below its level', () => {
    const { logger, lines } = captured('json', 'warn');
    logger.info('hello');
    expect(lines).toEqual([]);
  });

  it('masks fields that hold secrets, three levels down', () => {
    const { logger, lines } = captured('json');
    logger.info({ token: 'hunter2', req: { headers: { authorization: 'hunter2' } }, a: { password: 'hunter2' } }, 'x');
    logger.child({ access_token: 'hunter2' }).info({ url: '/ws?access_token=hunter2' });
    expect(lines.join('')).not.toContain('hunter2');
    expect(lines.join('')).toContain('***');
  });

  it('leaves the arguments of a failed Redis command and passwords in messages out of errors', () => {
    const { logger, lines, last } = captured('json');
    const cause = Object.assign(new Error('WRONGPASS'), { command: { name: 'auth', args: ['me', 'hunter2'] } });
    logger.error({ err: new Error('redis://me:hunter2@host failed', { cause }) }, 'x');
    expect(lines.join('')).not.toContain('hunter2');
    expect(last()['err']).toMatchObject({
      message: 'redis://me:***@host failed',
      cause: { message: 'WRONGPASS', command: 'auth' },
    });
  });

  it('writes lines for people, which cannot move their cursor', () => {
    const { logger, lines } = captured('pretty');
    logger.warn({ target: '\u001b[2J\u009b2J', count: 3 }, 'two\nlines');
    expect(lines[0]).toMatch(/^\d\d:\d\d:\d\d\.\d{3} WARN {2}gateway: two\\nlines target=\\x1b\[2J\\x9b2J count=3\n$/);
    logger.error({ err: new Error('broken') }, 'no');
    expect(lines[1]).toMatch(/ERROR gateway: no\nError: broken\n {4}at /);
  });
});

describe('redactUrl', () => {
  it.each([
    ['redis://:hunter2@host:6379/0', 'redis://:***@host:6379/0'],
    ['amqp://me:hun@ter2@host/vhost', 'amqp://me:***@host/vhost'],
    ['/ws?a=1&access_token=hunter2&b=2', '/ws?a=1&access_token=***&b=2'],
    ['/ws?access%5Ftoken=hunter2', '/ws?access%5Ftoken=***'],
    ['/ws?ACCESS_TOKEN=hunter2', '/ws?ACCESS_TOKEN=***'],
    ['cannot reach https://u:hunter2@h/x?token=hunter2 now', 'cannot reach https://u:***@h/x?token=*** now'],
    ['http://host:80/@scope/x?next=a@b', 'http://host:80/@scope/x?next=a@b'],
    ['/ws?%ff=1&tokens=3', '/ws?%ff=1&tokens=3'],
    ['/a?b?token=hunter2', '/a?b?token=***'],
  ])('makes %s into %s', (text, expected) => {
    expect(redactUrl(text)).toBe(expected);
  });

  // A client without a token may ask for any path, and each request is logged.
  it.each(['a', '?', '&a', ':', '://', '://a:', '://@', '?a=', '://a:b?', 'http'])(
    'takes time by the length of the text only, also of one that is all %s',
    (part) => {
      const timeOf = (length: number) => {
        const text = `/${part.repeat(length / part.length)}`;
        const beganMs = performance.now();
        redactUrl(text);
        return performance.now() - beganMs;
      };
      timeOf(1_000);
      // Of what is done for each pair of characters this would take many seconds.
      expect(timeOf(100_000)).toBeLessThan(1_000);
    },
  );
});
