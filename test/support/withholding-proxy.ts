/**
 * A TCP proxy in front of Redis that can hold back what a client has sent, as a network may: the client believes it on
 * its way, and it arrives long after everybody has gone on without it.
 */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

export interface Withheld {
  /** Resolves once something is held back. */
  readonly caught: Promise<void>;
  /** Lets it go to Redis after all. Resolves with the first that Redis answers to it. */
  release(): Promise<string>;
}

export interface WithholdingProxy {
  url: string;
  /** Holds back the next thing sent that contains `text`, and all that follows it on the same connection. */
  withhold(text: string): Withheld;
  stop(): void;
}

/** Starts a proxy to a Redis on loopback. */
export async function startWithholdingProxy(redisPort: number): Promise<WithholdingProxy> {
  const sockets = new Set<Socket>();
  let text: string | undefined;
  let onCaught = (_client: Socket, _redis: Socket) => {};
  const held = new Map<Socket, Buffer[]>();
  const server = createServer((client) => {
    const redis = connect(redisPort, '127.0.0.1');
    for (const socket of [client, redis]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => undefined);
    }
    client.on('data', (chunk) => {
      if (text !== undefined && chunk.includes(text)) {
        text = undefined;
        held.set(client, []);
        onCaught(client, redis);
      }
      const waiting = held.get(client);
      if (waiting === undefined) redis.write(chunk);
      else waiting.push(chunk);
    });
    redis.on('data', (chunk) => void client.write(chunk));
    // What a client that is gone has sent may still arrive.
    client.once('close', () => {
      if (!held.has(client)) redis.destroy();
    });
    redis.once('close', () => client.destroy());
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `redis://127.0.0.1:${(server.address() as { port: number }).port}`,
    withhold(wanted) {
      text = wanted;
      const caught = new Promise<[Socket, Socket]>((resolve) => {
        onCaught = (...sides) => resolve(sides);
      });
      return {
        caught: caught.then(() => undefined),
        async release() {
          const [client, redis] = await caught;
          const answered = once(redis, 'data') as Promise<[Buffer]>;
          for (const chunk of held.get(client) ?? []) redis.write(chunk);
          held.delete(client);
          const [answer] = await answered;
          return answer.toString('latin1');
        },
      };
    },
    stop() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
