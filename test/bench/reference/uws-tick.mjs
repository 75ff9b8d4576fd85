/** As uws-bare, but the lines of one event-loop tick go out as one frame, joined by newlines. Loses lines too. */
import uWS from 'uWebSockets.js';
import { encode, EVERYTHING, subscribeLines } from './lines.mjs';
import { serveTopics } from './uws-topics.mjs';

const app = uWS.App();
serveTopics(app);

/** @type {Map<string, string[]>} */
const pending = new Map();
let scheduled = false;

const flush = () => {
  scheduled = false;
  for (const [target, messages] of pending) {
    const frame = messages.join('\n');
    app.publish(target, frame);
    app.publish(EVERYTHING, frame);
  }
  pending.clear();
};

await subscribeLines((target, data) => {
  const message = encode(target, data);
  const messages = pending.get(target);
  if (messages) messages.push(message);
  else pending.set(target, [message]);
  if (!scheduled) {
    scheduled = true;
    setImmediate(flush);
  }
});
