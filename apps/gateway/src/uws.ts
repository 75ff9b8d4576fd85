/** uWebSockets.js, told before it is loaded how long the head of a request may be: it is asked nothing later. */
import { createRequire } from 'node:module';
import type uWS from 'uWebSockets.js';

const VARIABLE = 'UWS_HTTP_MAX_HEADERS_SIZE';
/**
 * As much as Node.js itself takes. Its binaries for Node.js 22 and later would take 4 KiB, which a token and the cookies of whoever
 * stands in front may exceed.
 */
const HEAD_BYTES_MAX = 16 * 1024;

function load(): typeof uWS {
  const isOurs = process.env[VARIABLE] === undefined;
  if (isOurs) process.env[VARIABLE] = String(HEAD_BYTES_MAX);
  const loaded = createRequire(import.meta.url)('uWebSockets.js') as typeof uWS;
  // Not for control scripts, which inherit what is left.
  if (isOurs) delete process.env[VARIABLE];
  return loaded;
}

export default load();
