/** What the servers behind a Redis connection say of themselves. */
import type { RedisConnection } from '@carrierarr/platform';
import type { Means } from '../check.js';
import { type Finding, skip } from '../finding.js';

/** Fields of INFO, by their names there. */
export type Info = ReadonlyMap<string, string>;

export interface ServerInfo {
  /** `host:port`; empty where there is only one. */
  readonly name: string;
  readonly info: Info;
}

export function parseInfo(text: string): Info {
  const fields = text.split(/\r?\n/).filter((line) => line.includes(':') && !line.startsWith('#'));
  return new Map(fields.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]));
}

/** Of each primary; null when this user may not ask. */
async function serverInfos(redis: RedisConnection): Promise<readonly ServerInfo[] | null> {
  try {
    if (!('nodes' in redis)) return [{ name: '', info: parseInfo(await redis.info()) }];
    return await Promise.all(
      redis.nodes('master').map(async (node) => ({
        name: `${node.options.host}:${node.options.port}`,
        info: parseInfo(await node.info()),
      })),
    );
  } catch (error) {
    if (/NOPERM|unknown command/i.test((error as Error).message)) return null;
    throw error;
  }
}

/** What `judge` says of each server, with the server's name where there are several. */
export async function judgeEach(means: Means, judge: (info: Info) => readonly Finding[]): Promise<readonly Finding[]> {
  const servers = await serverInfos(await means.redis());
  if (servers === null) {
    return [skip('Redis does not permit INFO to this user.', 'Run it once as a user who may, or allow +info.')];
  }
  return servers.flatMap(({ name, info }) =>
    judge(info).map((finding) => (name === '' ? finding : { ...finding, seen: `${name}: ${finding.seen}` })),
  );
}
