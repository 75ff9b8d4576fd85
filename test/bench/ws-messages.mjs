/** A client of a gateway, for benchmarks. */
import { WebSocket } from 'ws';

/**
 * Resolves to the open socket. Calls `onMessage` for each message: several may come in one frame, one on a line.
 *
 * @param {string} address HOST:PORT
 * @param {(message: any) => void} onMessage
 */
export async function openClient(address, onMessage) {
  const socket = new WebSocket(`ws://${address}/ws`, ['carrierarr.v1']);
  socket.on('message', (data) => {
    for (const text of /** @type {Buffer} */ (data).toString('utf8').split('\n')) onMessage(JSON.parse(text));
  });
  await new Promise((resolve, reject) => socket.once('open', () => resolve(undefined)).once('error', reject));
  return socket;
}
