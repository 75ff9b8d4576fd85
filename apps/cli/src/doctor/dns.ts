/** Whether every host that is named can be found from here. */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { Check, Means } from './check.js';
import { fail, type Finding, ok } from './finding.js';

interface NamedHost {
  readonly host: string;
  /** Where it is named. */
  readonly flag: string;
}

/** Addresses need no looking up, and are left out. */
export function hostsOf({
  gateway,
  redisSettings,
  config,
}: Pick<Means, 'gateway' | 'redisSettings' | 'config'>): NamedHost[] {
  const urls = [
    { url: gateway?.url, flag: '--url' },
    { url: config.rabbitmqUrl, flag: '--rabbitmq-url' },
    { url: config.eventsQueueUrl, flag: '--events-queue-url' },
  ];
  const named = [
    ...urls.flatMap(({ url, flag }) => (url ? [{ host: new URL(url).hostname.replace(/^\[|\]$/g, ''), flag }] : [])),
    ...(redisSettings?.nodes ?? []).map(({ host }) => ({
      host,
      flag: config.redisNodes.length > 0 ? '--redis-nodes' : '--redis-url',
    })),
  ].filter(({ host }) => host !== '' && isIP(host) === 0);
  return [...new Map(named.map((each) => [`${each.flag} ${each.host}`, each])).values()];
}

export type Looked = { readonly addresses: readonly string[] } | { readonly code: string };

export function judgeHost({ host, flag }: NamedHost, looked: Looked): Finding {
  if ('addresses' in looked) return ok(`${host} (${flag}) is ${looked.addresses.join(', ')}.`);
  const why = looked.code === 'ENOTFOUND' ? 'is not known here' : `could not be looked up (${looked.code})`;
  return fail(
    `${host} (${flag}) ${why}.`,
    'Check its spelling; in a cluster also the namespace, and that the NetworkPolicy lets DNS through (port 53).',
  );
}

async function look(host: string): Promise<Looked> {
  try {
    const found = await lookup(host, { all: true });
    return { addresses: found.map(({ address }) => address) };
  } catch (error) {
    return { code: (error as NodeJS.ErrnoException).code ?? String(error) };
  }
}

export const dns: Check = {
  name: 'dns',
  missing: (means) => (hostsOf(means).length === 0 ? 'only addresses are named, no hosts' : undefined),
  look: (means) => Promise.all(hostsOf(means).map(async (each) => judgeHost(each, await look(each.host)))),
};
