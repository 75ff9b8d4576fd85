/** What should never be sent is answered or cut off, and nobody else notices (promise C5). */
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { expect, test } from 'vitest';
import { Installation } from '../support/installation.js';
import { residentBytes } from '../support/processes.js';
import { until } from '../support/until.js';
import { Socket, wsUrl } from '../support/ws-clients.js';

const KIB = 1024;
const MIB = 1024 * KIB;

/** Texts that a connection survives, each answered by one error. */
const ANSWERED: Record<string, string | Buffer> = {
  nothing: '',
  'no JSON': 'start worker-1',
  'half an object': '{"type":"command"',
  null: 'null',
  'a list': '[{"type":"ping"}]',
  'a number': '1e999',
  'no type': '{"command":"exit"}',
  'an unknown type': '{"type":"shutdown"}',
  'a type of Object.prototype': '{"type":"__proto__"}',
  'another type of Object.prototype': '{"type":"constructor"}',
  'a type that is no text': '{"type":{"toString":"x"}}',
  'a poisoned prototype':
    '{"type":"command","__proto__":{"command":"exit"},"constructor":{"prototype":{"command":"exit"}}}',
  'deep lists': `{"type":"command","command":"exit","args":${'['.repeat(20_000)}${']'.repeat(20_000)}}`,
  'deep objects': `${'{"type":'.repeat(7_000)}1${'}'.repeat(7_000)}`,
  'a command that is a flag': '{"type":"command","command":"--help","target":"hostile"}',
  'a command that is a path': '{"type":"command","command":"../../bin/sh","target":"hostile"}',
  'a command with a new line': '{"type":"command","command":"exit\\nrm","target":"hostile"}',
  'a command with an environment that is too long': `{"type":"command","command":"${'A'.repeat(65)}","target":"hostile"}`,
  'arguments that are no texts': '{"type":"command","command":"exit","target":"hostile","args":[{"a":1}]}',
  'an argument with NUL': '{"type":"command","command":"exit","target":"hostile","args":["a\\u0000b"]}',
  'too many arguments': JSON.stringify({
    type: 'command',
    command: 'exit',
    target: 'hostile',
    args: Array(65).fill('a'),
  }),
  'a target with braces': '{"type":"command","command":"exit","target":"{17}:lease:worker-1"}',
  'a target with control characters': '{"type":"command","command":"exit","target":"a\\u001b[2Jb"}',
  'a target that is a pattern': '{"type":"command","command":"exit","target":"*"}',
  'a target that is too long': JSON.stringify({ type: 'command', command: 'exit', target: 'a'.repeat(201) }),
  'an id with spaces': '{"type":"command","command":"exit","target":"hostile","id":"a b"}',
  'a tail that is too long': '{"type":"subscribe","target":"worker-1","tail":1000000000}',
  'a negative offset': '{"type":"subscribe","target":"worker-1","since":{"epoch":"e","offset":-1}}',
  'a timeout that is none': '{"type":"command","command":"exit","target":"hostile","timeout_seconds":-1}',
  'a message just below the limit': JSON.stringify({ type: 'x', text: 'a'.repeat(64 * KIB - 30) }),
};

async function hostile(it: Installation): Promise<Socket> {
  const socket = new Socket(wsUrl(it.gateway(0).url));
  await socket.opened();
  return socket;
}

test('messages that are malformed, oversized or hostile harm only their sender', async () => {
  const it = await Installation.start({
    gateways: 1,
    // The real limits, which the other scenarios have out of their way.
    gatewayFlags: ['--messages-per-second', '100', '--commands-per-second', '1', '--commands-burst', '40'],
  });
  const healthy = await it.newClient('healthy', { targets: ['worker-1'] });
  const old = await it.oldClient('healthy old');
  const { commandId } = await healthy.submit('worker-1', 'hold', 20, 0.01);
  await until('the stream to run', () => healthy.session.lineCount('worker-1') > 100);

  const socket = await hostile(it);
  for (const [what, text] of Object.entries(ANSWERED)) {
    const before = socket.messages.length;
    socket.send(text);
    const answer = await until(`an answer to ${what}`, () => socket.messages[before], 5_000);
    expect({ what, ...answer }).toMatchObject({ what, type: 'error', code: 'bad_message' });
    // Enough to see what was wrong, not all of it back.
    expect((answer['error'] as string).length).toBeLessThan(1_000);
  }
  socket.send(Buffer.from('{"type":"ping"}'));
  await socket.next('an answer to a binary frame', ({ error }) => /binary/.test(String(error)));
  expect(socket.isOpen).toBe(true);

  const large = await hostile(it);
  large.send(JSON.stringify({ type: 'x', text: 'a'.repeat(65 * KIB) }));
  await large.next('an error', ({ code }) => code === 'message_too_large');
  expect((await large.closed).code).toBe(1009);

  const larger = await hostile(it);
  larger.send('a'.repeat(2 * MIB));
  expect([1006, 1009]).toContain((await larger.closed).code);

  const invalid = await hostile(it);
  invalid.sendAsText(Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0xc0, 0xaf]));
  expect([1006, 1007]).toContain((await invalid.closed).code);

  // Random bytes instead of frames, and instead of HTTP.
  for (const bytes of [randomBytes(64 * KIB), Buffer.from(`GET /ws HTTP/1.1\r\n${'A: b\r\n'.repeat(50_000)}`)]) {
    const raw = connect(it.gateway(0).port, '127.0.0.1');
    raw.on('error', () => undefined);
    const closed = new Promise((resolve) => raw.once('close', resolve));
    raw.resume();
    raw.write(bytes);
    raw.end();
    await closed;
  }
  const seen = healthy.session.lineCount('worker-1');
  await until('more lines', () => healthy.session.lineCount('worker-1') > seen + 100);
  await it.release(commandId);
  await it.verdict('hostile messages');
  expect([healthy.connections, old.socket.isOpen, it.gateway(0).hasEnded]).toEqual([1, true, false]);
  expect((await it.journal()).filter((event) => event.kind === 'start')).toHaveLength(1);
});

test('10,000 messages at once are refused or cut off, and others get their output meanwhile', async () => {
  const it = await Installation.start({
    gateways: 1,
    runners: 1,
    gatewayFlags: ['--messages-per-second', '100', '--commands-per-second', '1', '--commands-burst', '40'],
  });
  const healthy = await it.newClient('healthy', { targets: ['worker-1'] });
  const { commandId } = await healthy.submit('worker-1', 'hold', 20, 0.01);
  await until('the stream to run', () => healthy.session.lineCount('worker-1') > 100);
  const before = residentBytes(it.gateway(0).pid) ?? 0;

  const pinger = await hostile(it);
  for (let n = 0; n < 10_000; n += 1) pinger.send('{"type":"ping"}');
  expect((await pinger.closed).code).toBe(4429);
  expect(pinger.messages.some(({ code }) => code === 'rate_limited')).toBe(true);

  // Within the limit of messages, above that of commands.
  const commander = await hostile(it);
  for (let n = 0; n < 90; n += 1) {
    it.recorder.submitted('commander', { target: 'flooded', commandId: `flood-${n}` });
    commander.send({
      type: 'command',
      command: 'exit',
      target: 'flooded',
      args: [`flood-${n}`, '0'],
      id: `flood-${n}`,
    });
  }
  await until(
    'ninety answers',
    () => commander.messages.filter(({ type, id }) => type !== 'status' && id !== undefined).length === 90,
  );
  const limited = commander.messages.filter(({ code }) => code === 'rate_limited').length;
  expect(limited).toBeGreaterThan(30);
  for (const submission of it.recorder.submissions.filter(({ client }) => client === 'commander')) {
    const answer = commander.messages.find(({ id }) => id === submission.commandId);
    if (answer?.type === 'accepted') it.recorder.accepted(submission, answer['execution_id']);
    else it.recorder.refused(submission, answer?.['code']);
  }
  commander.terminate();

  const seen = healthy.session.lineCount('worker-1');
  await until('more lines', () => healthy.session.lineCount('worker-1') > seen + 100);
  expect((residentBytes(it.gateway(0).pid) ?? 0) - before).toBeLessThan(64 * MIB);
  await it.release(commandId);
  await until('the accepted commands to have run', async () => {
    const starts = (await it.journal()).filter((event) => event.kind === 'start' && event.target === 'flooded');
    return starts.length === 90 - limited;
  });
  await it.verdict('10,000 messages at once');
  expect(healthy.connections).toBe(1);
});
