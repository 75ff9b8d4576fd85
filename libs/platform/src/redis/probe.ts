/** Asks a Redis server one thing over a connection of its own. Used before a client would make sense. */
import { connect, type NetConnectOpts } from 'node:net';

export interface RedisPlace {
  readonly connect: NetConnectOpts;
  readonly password: string | null;
}

/** `gone`: nobody listens. `silent`: somebody does, but did not answer in time. Else the first line of the answer. */
export type Answer = { readonly kind: 'gone' | 'silent' } | { readonly kind: 'line'; readonly line: string };

/** Sends an inline command such as PING. Never rejects. */
export function ask({ connect: target, password }: RedisPlace, command: string, timeoutMs = 1_000): Promise<Answer> {
  return new Promise((resolve) => {
    const socket = connect(target);
    let received = '';
    let isConnected = false;
    const finish = (answer: Answer) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    const timer = setTimeout(() => finish({ kind: 'silent' }), timeoutMs);
    socket.on('connect', () => {
      isConnected = true;
      socket.write(`${password === null ? '' : `AUTH ${password}\r\n`}${command}\r\n`);
    });
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1');
      const lines = received.split('\r\n').slice(0, -1);
      const line = password !== null && lines[0]?.startsWith('+OK') ? lines[1] : lines[0];
      if (line !== undefined) finish({ kind: 'line', line });
    });
    socket.on('error', () => finish({ kind: 'gone' }));
    socket.on('close', () => finish({ kind: isConnected && received === '' ? 'silent' : 'gone' }));
  });
}
