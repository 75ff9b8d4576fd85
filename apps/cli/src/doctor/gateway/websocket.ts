/** Whether a WebSocket gets through to the gateway, and messages both ways. */
import { type Check, gatewayOf, NO_GATEWAY } from '../check.js';
import { fail, type Finding, ok } from '../finding.js';
import { ProbeSocket, type SocketEnd } from './socket.js';

/** `end`: how it ended before a ping was answered; undefined when it was answered, after `tookMs`. */
export function judgeWebSocket(url: string, end: SocketEnd | undefined, tookMs: number): Finding {
  if (end === undefined) return ok(`${url}/ws opened, and a ping was answered, within ${Math.ceil(tookMs)} ms.`);
  if (end.kind === 'error')
    return fail(`${url}/ws did not open: ${end.error.message || String(end.error)}.`, advice(0));
  if (end.kind === 'refused') return fail(`${url}/ws was refused with ${end.status}.`, advice(end.status));
  return fail(
    `${url}/ws was closed with ${end.code}${end.reason === '' ? '' : ` (${end.reason})`}.`,
    'The codes are in the reference of errors; 1006 means that something on the way cut it.',
  );
}

function advice(status: number): string {
  switch (status) {
    case 401:
      return 'Give a token that the gateway takes, with --token-file or CARRIERARR_TOKEN.';
    case 403:
      return 'The gateway, or a proxy, does not allow this client: look at the token and at --allow-origin.';
    case 404:
      return 'Route /ws to the gateways.';
    case 502:
    case 503:
    case 504:
      return 'The proxy reaches no gateway that is ready.';
    case 505:
      return 'The proxy speaks HTTP/1.0 to the gateway: set proxy_http_version 1.1 (nginx).';
    default:
      return 'Does the proxy pass upgrades on (the headers Upgrade and Connection), and by HTTP/1.1?';
  }
}

export const gatewayWebSocket: Check = {
  name: 'gateway-websocket',
  missing: ({ gateway }) => (gateway === null ? NO_GATEWAY : undefined),
  async look(means) {
    const access = gatewayOf(means);
    const fromMs = means.clock.monotonicMs();
    const socket = new ProbeSocket(access, means.clock);
    try {
      let end = await socket.open();
      if (end === undefined) {
        socket.send({ type: 'ping' });
        const answer = await socket.receive('pong');
        end = answer === true ? undefined : answer;
      }
      return [judgeWebSocket(access.url, end, means.clock.monotonicMs() - fromMs)];
    } finally {
      socket.close();
    }
  },
};
