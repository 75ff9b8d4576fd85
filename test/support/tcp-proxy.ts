/** A TCP proxy on loopback that can hold everything back, as a network that is gone without a word. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

export interface TcpProxy {
  readonly port: number;
  /** From now on nothing passes, in either direction, and nobody is told; new connections hang, too. */
  hold(): void;
  /** Breaks what there is, and lets new connections through again. */
  mend(): void;
  stop(): void;
}

/** Starts one in front of a port on loopback. */
export async function startTcpProxy(target: number): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  let isHeld = false;
  const server = createServer((client) => {
    const upstream = connect(target, '127.0.0.1');
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.setNoDelay(true);
      from.on('error', () => undefined);
      from.on('data', (chunk) => {
        if (!isHeld) to.write(chunk);
      });
      from.once('close', () => {
        sockets.delete(from);
        if (!isHeld) to.destroy();
      });
    }
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const breakAll = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: (server.address() as { port: number }).port,
    hold() {
      isHeld = true;
    },
    mend() {
      breakAll();
      isHeld = false;
    },
    stop() {
      server.close();
      breakAll();
    },
  };
}
