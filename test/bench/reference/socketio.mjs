/**
 * Socket.IO with its Redis adapter and rooms, as its manual shows it: the process that has a line emits it
 * to the room, the adapter passes it on to all other nodes through Redis.
 */
import { createAdapter } from '@socket.io/redis-adapter';
import { Redis } from 'ioredis';
import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { announce, EVERYTHING, redisUrl, subscribeLines } from './lines.mjs';

const http = createServer();
const io = new Server(http, {
  transports: ['websocket'],
  adapter: createAdapter(new Redis(redisUrl), new Redis(redisUrl)),
});

io.on('connection', (socket) => {
  void socket.join(EVERYTHING);
  socket.on('ping', () => socket.emit('pong'));
  socket.on('subscribe', (target) => {
    void socket.leave(EVERYTHING);
    void socket.join(target || EVERYTHING);
  });
});

await subscribeLines((target, data) => {
  const message = { type: 'stdout', timestamp: new Date().toISOString(), target, data };
  io.to([target, EVERYTHING]).emit('message', message);
});
http.listen(0, '127.0.0.1', () => announce(/** @type {import('node:net').AddressInfo} */ (http.address()).port));
