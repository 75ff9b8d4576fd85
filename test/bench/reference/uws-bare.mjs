/** The least a gateway can do: one `app.publish` per line. Fast, and it loses lines without a word. */
import uWS from 'uWebSockets.js';
import { encode, EVERYTHING, subscribeLines } from './lines.mjs';
import { serveTopics } from './uws-topics.mjs';

const app = uWS.App();
serveTopics(app);
await subscribeLines((target, data) => {
  const message = encode(target, data);
  app.publish(target, message);
  app.publish(EVERYTHING, message);
});
