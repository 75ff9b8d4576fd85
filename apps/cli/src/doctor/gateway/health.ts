/** Whether a gateway answers at the URL, and is ready. */
import { type Check, gatewayOf, NO_GATEWAY } from '../check.js';
import { fail, type Finding, ok, skip, warn } from '../finding.js';
import { type Answer, field, request } from './request.js';

/** Proxies commonly keep probes and versions from the outside. */
const INSIDE = 'Probes are commonly kept from the outside. Ask a gateway directly, from inside, to see them.';

export function judgeHealth(url: string, { status, json }: Pick<Answer, 'status' | 'json'>): Finding {
  const clients = field(json, 'clients');
  if (status === 200 && field(json, 'status') === 'healthy') {
    return ok(`A gateway answers at ${url}${typeof clients === 'number' ? `, with ${clients} clients` : ''}.`);
  }
  if (status === 404 || status === 403) return skip(`${url}/health is not served here (${status}).`, INSIDE);
  if (status >= 300 && status < 400) {
    return fail(`${url} redirects (${status}).`, 'Name where it redirects to: https instead of http, most likely.');
  }
  if (status === 502 || status === 503 || status === 504) {
    return fail(
      `The proxy at ${url} reaches no gateway (${status}).`,
      'Are gateways running and ready, and does the Service select them?',
    );
  }
  return fail(
    `${url}/health answers ${status}, which is no gateway's answer.`,
    'Check --url, and the routes of the proxy.',
  );
}

export function judgeReady({ status, json }: Pick<Answer, 'status' | 'json'>): Finding {
  const isReport = typeof field(json, 'ready') === 'boolean';
  if (!isReport) return skip(`/ready is not served here (${status}).`, INSIDE);
  const checks = Object.entries((field(json, 'checks') ?? {}) as Record<string, unknown>);
  const bad = checks.filter(([, state]) => field(state, 'ok') !== true);
  if (field(json, 'ready') === true) return ok(`The gateway is ready: ${checks.map(([name]) => name).join(', ')}.`);
  const why = bad.map(([name, state]) => `${name}: ${String(field(state, 'detail'))}`).join('; ');
  return fail(
    `The gateway is not ready: ${why}.`,
    'The same request again names the checks, and since when they are so.',
  );
}

export function judgeVersion(ours: string, { status, json }: Pick<Answer, 'status' | 'json'>): Finding {
  const theirs = field(json, 'version');
  if (typeof theirs !== 'string') return skip(`/version is not served here (${status}).`, INSIDE);
  if (minorOf(theirs) === minorOf(ours)) return ok(`The gateway is of version ${theirs}.`);
  return warn(
    `The gateway is of version ${theirs}, this command line of ${ours}.`,
    'Take the same minor version for both, once an upgrade is done.',
  );
}

/** `1.2` of `1.2.3`. */
function minorOf(text: string): string {
  return text.split('.', 2).join('.');
}

export const gatewayHealth: Check = {
  name: 'gateway',
  missing: ({ gateway }) => (gateway === null ? NO_GATEWAY : undefined),
  async look(means) {
    const access = gatewayOf(means);
    const health = await request(access, '/health').catch((error: Error) => error);
    if (health instanceof Error) {
      return [
        fail(
          health.message,
          'In a cluster: is there a Service of that name, and does the NetworkPolicy let us through?',
        ),
      ];
    }
    return [
      judgeHealth(access.url, health),
      judgeReady(await request(access, '/ready')),
      judgeVersion(means.version, await request(access, '/version')),
    ];
  },
};
