/** What clients that cannot resume get of a gateway that stops. */
import { createLogger, type Timer } from '@carrierarr/platform';
import type uWS from 'uWebSockets.js';
import { expect, it, vi } from 'vitest';
import { Connection, type Holder } from '../../../apps/gateway/src/ws/connection.js';
import { Endpoint, type EndpointOptions } from '../../../apps/gateway/src/ws/endpoint.js';
import { FakeSocket, HandClock, useDelivery } from '../delivery/harness.js';

const { gateway, writer } = useDelivery();

/** When old clients leave, of a spread of twice that; no other timeout is as long. */
const LEAVE_MS = 5_000;
/** The longest time for which entries gather. */
const WINDOW_MS = 16;

/** Old clients leave when the test says so. */
class DrainClock extends HandClock {
  readonly leaving: (() => void)[] = [];
  #standsAtMs: number | undefined;
  /** From now on no window ends, and each entry comes within one: all gathers until somebody sends it. */
  gather(): void {
    this.#standsAtMs = super.monotonicMs();
  }
  override monotonicMs(): number {
    return this.#standsAtMs ?? super.monotonicMs();
  }
  override setTimeout(callback: () => void, ms: number): Timer {
    if (this.#standsAtMs !== undefined && ms > 0 && ms <= WINDOW_MS) return { cancel: () => undefined };
    if (ms !== LEAVE_MS) return super.setTimeout(callback, ms);
    this.leaving.push(callback);
    return { cancel: () => undefined };
  }
}

/** A gateway with one old client, which watches everything. */
async function oldClient() {
  const clock = new DrainClock();
  const { fanout } = await gateway({ clock, clientBufferBytes: 10 });
  const endpoint = new Endpoint({
    ...{ fanout, clock, random: () => 0.5, logger: createLogger({ program: 'test', level: 'silent' }) },
    ...{ idleTimeoutMs: 8_000, unauthenticatedTimeoutMs: 8_000, onRefused: () => undefined },
    status: { add: () => undefined, remove: () => undefined, drained: () => undefined },
  } as unknown as EndpointOptions);
  let handlers!: uWS.WebSocketBehavior<Holder>;
  endpoint.register({
    ws: (_: string, behavior: uWS.WebSocketBehavior<Holder>) => void (handlers = behavior),
  } as unknown as uWS.TemplatedApp);
  const socket = new FakeSocket();
  const connection = new Connection({
    ...{ credential: { kind: 'subject', subject: 's' }, address: '', modern: false, release: () => undefined },
  });
  const linesAtClose: string[][] = [];
  const ws = {
    getUserData: () => ({ connection }),
    getBufferedAmount: () => socket.bufferedBytes(),
    send: (frame: Buffer | string) => (socket.send(Buffer.from(frame)) ? 1 : 0),
    end() {
      linesAtClose.push(socket.lines());
      handlers.close?.(ws, 1012, new ArrayBuffer(0));
    },
  } as unknown as uWS.WebSocket<Holder>;
  void handlers.open?.(ws);
  await fanout.everythingReady;
  return {
    fanout,
    clock,
    endpoint,
    socket,
    client: connection.client,
    linesAtClose,
    drained: () => handlers.drain?.(ws),
  };
}

it('what gathers for an old client goes out before its connection is closed', async () => {
  const { fanout, clock, endpoint, socket, linesAtClose } = await oldClient();
  const a = await writer('a');
  await a.write(1);
  await vi.waitFor(() => expect(socket.lines()).toEqual(['a#1']));
  const feed = await fanout.feed('a');
  const draining = endpoint.drain(2 * LEAVE_MS, 10_000);
  clock.gather();
  // The first may still come after a quiet time, and go out at once.
  await a.write(1);
  await a.write(1);
  await vi.waitFor(() => expect(feed.last).toBe(4));
  for (const leave of clock.leaving) leave();
  await draining;
  expect(linesAtClose).toEqual([['a#1', 'a#2', 'a#3']]);
});

it('an old client that is behind when its moment comes is closed once it has been sent all', async () => {
  const { clock, endpoint, socket, client, linesAtClose, drained } = await oldClient();
  const a = await writer('a');
  socket.full = true;
  await a.write(1);
  await vi.waitFor(() => expect(socket.lines()).toEqual(['a#1']));
  await a.write(2);
  await vi.waitFor(() => {
    clock.audit();
    expect(client.isBehind).toBe(true);
  });
  const draining = endpoint.drain(2 * LEAVE_MS, 10_000);
  for (const leave of clock.leaving) leave();
  expect(linesAtClose).toEqual([]);
  socket.full = false;
  socket.buffered = 0;
  drained();
  await draining;
  expect(linesAtClose).toEqual([['a#1', 'a#2', 'a#3']]);
});

it('an old client that never reads is closed at the deadline', async () => {
  const { clock, endpoint, socket, linesAtClose } = await oldClient();
  const a = await writer('a');
  socket.full = true;
  await a.write(1);
  await vi.waitFor(() => expect(socket.lines()).toEqual(['a#1']));
  const draining = endpoint.drain(2 * LEAVE_MS, 200);
  await a.write(1);
  for (const leave of clock.leaving) leave();
  await draining;
  expect(linesAtClose).toHaveLength(1);
});
