/**
 * Whether a proxy cuts a WebSocket on which nobody says anything. The gateway pings well within the usual limits, and
 * this keeps to answering: what a client that only watches does.
 */
import { randomUUID } from 'node:crypto';
import { deferred } from '../../deferred.js';
import { type Check, gatewayOf, type Means, NO_GATEWAY, Unseen } from '../check.js';
import { fail, type Finding, ok } from '../finding.js';
import { ProbeSocket, type SocketEnd } from './socket.js';

/** Most proxies' limit, or just below. */
const USUAL_SECONDS = 60;

export interface IdleFacts {
  readonly askedSeconds: number;
  readonly heldMs: number;
  readonly silenceMs: number;
  /** How it ended before the time was over. */
  readonly end?: SocketEnd;
}

export function judgeIdle({ askedSeconds, heldMs, silenceMs, end }: IdleFacts): Finding {
  const held = `${(heldMs / 1000).toFixed(1)} s`;
  const silence = `nothing came for ${(silenceMs / 1000).toFixed(1)} s at the longest`;
  if (end !== undefined) {
    const how = end.kind === 'closed' ? `closed with ${end.code}${end.reason === '' ? '' : ` (${end.reason})`}` : 'cut';
    return fail(
      `A WebSocket without traffic was ${how} after ${held}; ${silence}.`,
      'Raise the idle timeout of the proxy (nginx: proxy-read-timeout and proxy-send-timeout 3600; ALB: idle_timeout), or ' +
        'lower --idle-timeout of the gateways: they ping after about three quarters of it.',
    );
  }
  const short = askedSeconds <= USUAL_SECONDS ? ' Limits of 60 s show with --idle-seconds 90.' : '';
  return ok(`A WebSocket without traffic of ours stayed open for ${held}; ${silence}.${short}`);
}

async function hold(means: Means): Promise<IdleFacts> {
  const { config, clock } = means;
  const socket = new ProbeSocket(gatewayOf(means), clock);
  try {
    if ((await socket.open()) !== undefined) throw new Unseen('no WebSocket opens');
    // The output of a target that does not exist: of everything else nothing is sent.
    socket.send({ type: 'subscribe', target: `doctor-${randomUUID()}` });
    const fromMs = clock.monotonicMs();
    const over = deferred<undefined>();
    const timer = clock.setTimeout(() => over.resolve(undefined), config.idleSeconds * 1000);
    const end = await Promise.race([over.promise, socket.ended]);
    timer.cancel();
    const heldMs = clock.monotonicMs() - fromMs;
    const facts = { askedSeconds: config.idleSeconds, heldMs, silenceMs: socket.longestSilenceMs() };
    return end === undefined ? facts : { ...facts, end };
  } finally {
    socket.close();
  }
}

export const gatewayIdle: Check = {
  name: 'gateway-idle',
  missing: ({ gateway, config }) =>
    gateway === null ? NO_GATEWAY : config.idleSeconds === 0 ? 'it was not wanted (--idle-seconds 0)' : undefined,
  extraMs: ({ config }) => config.idleSeconds * 1000,
  look: async (means) => [judgeIdle(await hold(means))],
};
