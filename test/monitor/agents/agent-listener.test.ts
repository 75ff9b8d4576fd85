import { once } from 'node:events';
import { connect, Server } from 'node:net';
import { expect, it, onTestFinished, vi } from 'vitest';
import { AgentListener } from '../../../apps/monitor/src/agents/agent-listener.js';

it('listens on after a connection could not be accepted', async () => {
  const listen = vi.spyOn(Server.prototype, 'listen');
  onTestFinished(() => listen.mockRestore());
  const errors: Error[] = [];
  const listener = new AgentListener({
    addr: { host: '127.0.0.1', port: 0 },
    admit: () => () => undefined,
    onConnection: (socket) => socket.end('taken'),
    onRefused: () => undefined,
    onError: (error) => errors.push(error),
  });
  await listener.listen();
  onTestFinished(() => listener.stop());
  // As Node.js tells of EMFILE: nothing but an event of the server.
  const [server] = listen.mock.contexts;
  if (!(server instanceof Server)) throw new Error('Expected a server to listen.');
  server.emit('error', new Error('accept EMFILE'));
  expect(errors.map(({ message }) => message)).toEqual(['accept EMFILE']);
  const socket = connect(listener.address?.port ?? 0, '127.0.0.1');
  const [text] = (await once(socket, 'data')) as [Buffer];
  expect(text.toString()).toBe('taken');
  socket.destroy();
});

it('says why it cannot have an address', async () => {
  const options = { admit: () => () => undefined, onConnection: () => undefined, onRefused: () => undefined };
  const first = new AgentListener({ addr: { host: '127.0.0.1', port: 0 }, ...options, onError: () => undefined });
  await first.listen();
  onTestFinished(() => first.stop());
  const port = first.address?.port ?? 0;
  const second = new AgentListener({ addr: { host: '127.0.0.1', port }, ...options, onError: () => undefined });
  await expect(second.listen()).rejects.toThrow('EADDRINUSE');
  expect(second.address).toBeUndefined();
});
