/** Text beyond ASCII, and requests with a long head, at the built gateway, whose uWebSockets.js is another for each version of Node.js. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { WebSocket } from 'ws';
import { Installation } from '../support/installation.js';
import { startProgram } from '../support/programs.js';
import { until } from '../support/until.js';
import { wsUrl } from '../support/ws-clients.js';

/** Of Latin-1, and not. */
const TARGETS = ['Größe-Ærø', 'größe-Ω-日本-🚚'];
/** Of a single sign-on in front, say. */
const COOKIE = `session=${'a'.repeat(12 * 1024)}`;

test.each(TARGETS)('%s comes back as it was sent, over HTTP and WebSocket', async (target) => {
  const it = await Installation.start({ gateways: 1, runners: 1 });
  const { url } = it.gateway(0);
  const answer = await fetch(`${url}/api/v1/targets/${encodeURIComponent(target)}/commands`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ command: 'no-such-verb', args: ['x'] }),
  });
  expect(await answer.json()).toMatchObject({ target });
  const socket = new WebSocket(wsUrl(url));
  onTestFinished(() => socket.terminate());
  const frames: string[] = [];
  const ends: number[] = [];
  socket.on('message', (data) => frames.push((data as Buffer).toString()));
  socket.on('error', () => undefined);
  socket.on('close', (code) => ends.push(code));
  await until('the connection', () => socket.readyState === WebSocket.OPEN);
  socket.send(JSON.stringify({ type: 'command', command: 'kill', target: `no-${target}` }));
  await until('an error', () => ends.length > 0 || frames.some((frame) => frame.includes('"error"')));
  expect(ends).toEqual([]);
  expect(frames.join()).toContain(`no-${target}`);
});

/** Says what uWebSockets.js sees when it is loaded: the one for Node.js 20 takes long heads whatever it is told. */
const HOOK = `
const Module = require('node:module');
const load = Module._load;
Module._load = function (name, ...more) {
  if (name === 'uWebSockets.js') console.error('heads: ' + process.env.UWS_HTTP_MAX_HEADERS_SIZE);
  return load.call(this, name, ...more);
};`;

test.each([
  ['16384', {}],
  ['32768', { UWS_HTTP_MAX_HEADERS_SIZE: '32768' }],
])('uWebSockets.js is told before it is loaded that heads may have %s bytes', async (bytes, env) => {
  const folder = await mkdtemp(join(tmpdir(), 'carrierarr-hook-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const hook = join(folder, 'hook.cjs');
  await writeFile(hook, HOOK);
  const gateway = startProgram({
    ...{ name: 'gateway', args: ['gateway', '--addr', '127.0.0.1:0', '--redis-url', 'redis://127.0.0.1:1'] },
    env: { NODE_OPTIONS: `--require ${hook}`, ...env },
  });
  onTestFinished(() => gateway.kill().then(() => undefined));
  expect(await until('it to be loaded', () => /heads: (\S+)/.exec(gateway.output())?.[1])).toBe(bytes);
});

test('a request whose head has twelve kilobytes is taken, over HTTP and WebSocket', async () => {
  const it = await Installation.start({ gateways: 1, runners: 0 });
  const { url } = it.gateway(0);
  expect((await fetch(`${url}/api/status`, { headers: { cookie: COOKIE } })).status).toBe(200);
  const socket = new WebSocket(wsUrl(url), { headers: { cookie: COOKIE } });
  onTestFinished(() => socket.terminate());
  let problem: string | undefined;
  socket.on('error', ({ message }) => (problem = message));
  await until('an answer', () => problem !== undefined || socket.readyState === WebSocket.OPEN);
  expect(problem).toBeUndefined();
});
