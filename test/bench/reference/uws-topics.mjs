/** The WebSocket side of both uWebSockets.js broadcasters: subscriptions become topics, library defaults otherwise. */
import uWS from 'uWebSockets.js';
import { announce, EVERYTHING, PONG } from './lines.mjs';

/** @param {uWS.TemplatedApp} app */
export const serveTopics = (app) => {
  app.ws('/ws', {
    open: (ws) => {
      ws.subscribe(EVERYTHING);
    },
    message: (ws, bytes) => {
      const message = JSON.parse(Buffer.from(bytes).toString());
      if (message.type === 'ping') ws.send(PONG);
      if (message.type === 'subscribe') {
        ws.unsubscribe(EVERYTHING);
        ws.subscribe(message.target || EVERYTHING);
      }
    },
  });
  app.listen('127.0.0.1', 0, (socket) => {
    if (!socket) throw new Error('cannot listen on 127.0.0.1');
    announce(uWS.us_socket_local_port(socket));
  });
};
