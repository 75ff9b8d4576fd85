/** Whether the token is taken, and whether anybody gets in without one. */
import { isLoopbackHost } from '@carrierarr/platform/light';
import { type Check, gatewayOf, NO_GATEWAY } from '../check.js';
import { fail, type Finding, ok, warn } from '../finding.js';
import { field, requestIfReached } from './request.js';

export interface AccessFacts {
  readonly url: string;
  readonly hasToken: boolean;
  /** HTTP status of a request that needs a token: with ours, and with none. */
  readonly withOurs: number;
  readonly withNone: number;
  /** Code of the error table, if the first was refused. */
  readonly code?: string;
}

export function judgeAccess({ url, hasToken, withOurs, withNone, code }: AccessFacts): Finding[] {
  const findings: Finding[] = [];
  const host = new URL(url).hostname.replace(/^\[|\]$/g, '');
  const isLoopback = isLoopbackHost(host);
  if (withNone === 200 && !isLoopback) {
    findings.push(
      warn(
        `${url} lets everybody in without a token.`,
        'Whoever reaches it can run commands on your workers. Give the gateway --tokens-file or --jwt-jwks-url, unless the network decides who that is.',
      ),
    );
  }
  if (hasToken && url.startsWith('http:') && !isLoopback) {
    findings.push(
      warn(`The token goes to ${host} in clear text.`, 'Use https, unless this is a network that you trust.'),
    );
  }
  if (withOurs === 401) {
    findings.push(
      hasToken
        ? fail(
            'The token is refused.',
            'Take one that is in the tokens file of the gateway, or a JSON Web Token that has not expired.',
          )
        : fail('The gateway wants a token, and none was given.', 'Give one with --token-file or CARRIERARR_TOKEN.'),
    );
  } else if (withOurs !== 200) {
    findings.push(
      fail(
        `The API answers ${withOurs}${code === undefined ? '' : ` (${code})`}.`,
        'Does the proxy route /api to the gateways? The codes are in the reference of errors.',
      ),
    );
  } else if (findings.length === 0) findings.push(ok(hasToken ? 'The token is taken.' : 'The API answers.'));
  return findings;
}

export const gatewayAccess: Check = {
  name: 'gateway-access',
  missing: ({ gateway }) => (gateway === null ? NO_GATEWAY : undefined),
  async look(means) {
    const access = gatewayOf(means);
    const ours = await requestIfReached(access, '/api/v1/targets');
    const none = access.token === null ? ours : await requestIfReached(access, '/api/v1/targets', false);
    const code = field(ours.json, 'code');
    return judgeAccess({
      ...{ url: access.url, hasToken: access.token !== null, withOurs: ours.status, withNone: none.status },
      ...(typeof code === 'string' && { code }),
    });
  },
};
