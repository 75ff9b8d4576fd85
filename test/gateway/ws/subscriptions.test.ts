import { systemClock } from '@carrierarr/platform';
import { SERVER_MESSAGES } from '@carrierarr/protocol';
import type uWS from 'uWebSockets.js';
import { expect, it, vi } from 'vitest';
import { Connection, type Holder } from '../../../apps/gateway/src/ws/connection.js';
import { Subscriptions } from '../../../apps/gateway/src/ws/subscriptions.js';
import { FakeSocket, gate, HandClock, keys, useDelivery } from '../delivery/harness.js';

const delivery = useDelivery();
const { gateway, writer } = delivery;

/** A connection whose socket records. */
function connect(fanout: Awaited<ReturnType<typeof gateway>>['fanout']) {
  const socket = new FakeSocket();
  const connection = new Connection({ credential: null, address: '', modern: true, release: () => undefined });
  connection.socket = {
    send: (frame: Buffer | string) => (socket.send(Buffer.from(frame)) ? 1 : 0),
    getBufferedAmount: () => socket.bufferedBytes(),
  } as unknown as uWS.WebSocket<Holder>;
  connection.client = fanout.add(connection);
  return { connection, socket };
}

it('keeps a feed from being forgotten while Redis is asked where a subscription begins', async () => {
  const clock = new HandClock();
  const { fanout, log } = await gateway({ clock });
  const { connection, socket } = connect(fanout);
  const subscriptions = new Subscriptions({
    ...{ fanout, log, keys, clock: systemClock, redis: delivery.commands, subscriptionsMax: 10 },
    status: { optIn: () => undefined, remove: () => undefined },
  });
  const a = await writer('a');
  await a.write(3);
  const asking = gate(log, 'tailStart');
  const subscribing = subscriptions.subscribe(connection, { type: 'subscribe', target: 'a', tail: 1 });
  await asking.reached;
  clock.skewMs += 40_000;
  clock.sweep();
  asking.open();
  await subscribing;
  await a.write(1);
  await vi.waitFor(() => {
    clock.audit();
    expect(socket.lines()).toEqual(['a#3', 'a#4']);
  });
  expect(SERVER_MESSAGES.subscribed.schema.safeParse(socket.messages[0]).error).toBeUndefined();
});
