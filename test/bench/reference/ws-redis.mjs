/** The usual Node gateway: `ws`, ioredis, and a loop over the target's clients. Buffers without bound. */
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { announce, encode, EVERYTHING, PONG, subscribeLines } from './lines.mjs';

/** @type {Map<string, Set<import('ws').WebSocket>>} */
const clientsByTarget = new Map();
const clientsOf = (target) => {
  let clients = clientsByTarget.get(target);
  if (!clients) clientsByTarget.set(target, (clients = new Set()));
  return clients;
};

const http = createServer();
new WebSocketServer({ server: http, path: '/ws' }).on('connection', (client) => {
  let clients = clientsOf(EVERYTHING).add(client);
  client.on('message', (/** @type {Buffer} */ text) => {
    const message = JSON.parse(text.toString());
    if (message.type === 'ping') client.send(PONG);
    if (message.type === 'subscribe') {
      clients.delete(client);
      clients = clientsOf(message.target || EVERYTHING).add(client);
    }
  });
  client.on('error', () => client.terminate());
  client.on('close', () => clients.delete(client));
});

await subscribeLines((target, data) => {
  const message = encode(target, data);
  for (const client of clientsOf(target)) client.send(message);
  for (const client of clientsOf(EVERYTHING)) client.send(message);
});
http.listen(0, '127.0.0.1', () => announce(/** @type {import('node:net').AddressInfo} */ (http.address()).port));
