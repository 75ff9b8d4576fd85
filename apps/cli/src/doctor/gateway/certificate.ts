/** Whether the certificate at the URL is one that clients trust, and for how long. */
import { isIP } from 'node:net';
import { connect } from 'node:tls';
import { type Check, gatewayOf, NO_GATEWAY } from '../check.js';
import { fail, type Finding, ok, warn } from '../finding.js';

const DAY_MS = 24 * 3_600_000;
/** Who renews by ACME does so a month before. */
const SOON_MS = 14 * DAY_MS;

export interface Certificate {
  readonly host: string;
  readonly validToMs: number;
  /** Why it is not trusted, in a word of TLS; undefined if it is. */
  readonly mistrust?: string;
}

export function judgeCertificate({ host, validToMs, mistrust }: Certificate, nowMs: number): Finding {
  const until = new Date(validToMs).toISOString().slice(0, 10);
  const leftMs = validToMs - nowMs;
  if (leftMs <= 0) return fail(`The certificate of ${host} expired on ${until}.`, 'Renew it.');
  if (mistrust !== undefined) {
    return fail(
      `The certificate of ${host} is not trusted (${mistrust}).`,
      'If it is of your own authority, name that in NODE_EXTRA_CA_CERTS, here and for every client. Else let a public one sign it, for this name.',
    );
  }
  const days = Math.floor(leftMs / DAY_MS);
  if (leftMs < SOON_MS) {
    return warn(
      `The certificate of ${host} expires in ${days} days, on ${until}.`,
      'Find out why nobody has renewed it yet.',
    );
  }
  return ok(`The certificate of ${host} is trusted, until ${until} (${days} days).`);
}

/** It is looked at, not trusted: nothing is sent. */
function look(url: URL): Promise<Certificate> {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return new Promise((resolve, reject) => {
    const socket = connect({
      ...{ host, port: Number(url.port) || 443, rejectUnauthorized: false },
      // An address is no server name.
      ...(isIP(host) === 0 && { servername: host }),
    });
    socket.once('secureConnect', () => {
      const { valid_to: validTo } = socket.getPeerCertificate();
      const { authorized, authorizationError } = socket;
      const mistrust = authorized ? undefined : String(authorizationError);
      socket.destroy();
      resolve({ host, validToMs: Date.parse(validTo), ...(mistrust !== undefined && { mistrust }) });
    });
    socket.once('error', reject);
  });
}

export const gatewayCertificate: Check = {
  name: 'gateway-certificate',
  missing: ({ gateway }) =>
    gateway === null ? NO_GATEWAY : gateway.url.startsWith('https:') ? undefined : 'the URL is not https',
  look: async (means) => [judgeCertificate(await look(new URL(gatewayOf(means).url)), means.clock.now())],
};
