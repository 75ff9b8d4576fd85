/**
 * A TCP proxy in front of Redis that can make subscriptions go silent: the connection stays up, and nothing comes any
 * more, as behind a firewall that has forgotten it.
 */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

export interface SilentProxy {
  url: string;
  /** From now on connections that have subscribed to something get nothing more. New ones work. Returns their number. */
  silenceSubscribers(): number;
  stop(): void;
}

/** Starts a proxy to a Redis on loopback. */
export async function startSilentProxy(redisPort: number): Promise<SilentProxy> {
  const subscribers = new Set<Socket>();
  const sockets = new Set<Socket>();
  const silent = new Set<Socket>();
  const server = createServer((client) => {
    const redis = connect(redisPort, '127.0.0.1');
    for (const socket of [client, redis]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => undefined);
    }
    client.on('data', (chunk) => {
      if (/\r\ns?subscribe\r\n/i.test(chunk.toString('latin1'))) subscribers.add(client);
      if (!silent.has(client)) redis.write(chunk);
    });
    redis.on('data', (chunk) => {
      if (!silent.has(client)) client.write(chunk);
    });
    client.once('close', () => {
      subscribers.delete(client);
      redis.destroy();
    });
    redis.once('close', () => client.destroy());
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `redis://127.0.0.1:${(server.address() as { port: number }).port}`,
    silenceSubscribers() {
      for (const client of subscribers) silent.add(client);
      return subscribers.size;
    },
    stop() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
