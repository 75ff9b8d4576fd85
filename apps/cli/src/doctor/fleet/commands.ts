/** Whether commands get started: what waits, and since when; targets that nobody frees; targets that are closed. */
import type { RedisConnection } from '@carrierarr/platform';
import { COMMAND_QUEUE, type Keys, PARTITIONS } from '@carrierarr/protocol';
import { type Check, type Means, withoutRedis } from '../check.js';
import { fail, type Finding, ok, warn } from '../finding.js';
import { redisNowMs } from '../redis/now.js';

/** A sweeper starts what nobody announced within 15 s; longer than this it waits for a runner. */
const LATE_MS = 20_000;
const STUCK_MS = 60_000;
const NAMED_MAX = 5;

interface Holder {
  readonly target: string;
  readonly runner: string;
}

export interface CommandFacts {
  readonly nowMs: number;
  /** Targets whose next command could start, the longest waiting first. */
  readonly waiting: readonly { readonly target: string; readonly sinceMs: number }[];
  readonly waitingCount: number;
  readonly running: readonly Holder[];
  readonly closed: readonly { readonly target: string; readonly untilMs: number }[];
  /** Runners that have been seen within a minute. */
  readonly runners: ReadonlySet<string>;
  readonly isPaused: boolean;
}

export function judgeCommands(facts: CommandFacts): Finding[] {
  const { nowMs, waiting, waitingCount, running, closed, runners, isPaused } = facts;
  const findings: Finding[] = [];
  if (isPaused) {
    findings.push(
      fail('The queue is paused: no command starts.', 'Somebody paused it with a tool for BullMQ; resume it there.'),
    );
  }
  const oldest = waiting[0];
  const ageMs = oldest === undefined ? 0 : nowMs - oldest.sinceMs;
  if (oldest !== undefined && ageMs > LATE_MS) {
    const seen = `${waitingCount} targets have commands that could start; "${oldest.target}" has waited for ${seconds(ageMs)}.`;
    const advice =
      'Are there runners, with a script, and free ones (carrierarr_runner_queue_depth)? Start more, or raise --concurrency.';
    findings.push(ageMs > STUCK_MS ? fail(seen, advice) : warn(seen, advice));
  }
  const orphaned = running.filter(({ runner }) => !runners.has(runner));
  if (orphaned.length > 0) {
    findings.push(
      fail(
        `${orphaned.length} commands are held by runners that have not been seen for a minute: ${named(orphaned)}.`,
        'Another runner ends them as lost within 15 s. Is any running, and does it reach this Redis?',
      ),
    );
  }
  if (closed.length > 0) {
    const last = Math.max(...closed.map(({ untilMs }) => untilMs));
    findings.push(
      warn(
        `${closed.length} targets are closed because their runners were lost: ${named(closed)}.`,
        last > nowMs
          ? `They open by themselves, the last in ${seconds(last - nowMs)}. Find out why runners die: out of memory, or no network?`
          : 'Their time is over, and a runner opens them when it looks. Is any running?',
      ),
    );
  }
  if (findings.length > 0) return findings;
  return [ok(`${running.length} commands run; ${waitingCount} targets wait, none of them for long.`)];
}

function named(targets: readonly { target: string }[]): string {
  const names = targets.slice(0, NAMED_MAX).map(({ target }) => target);
  return `${names.join(', ')}${targets.length > NAMED_MAX ? ', …' : ''}`;
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}

async function look({ redis: connect, keys }: Means): Promise<CommandFacts> {
  const redis = await connect();
  const partitions = Array.from({ length: PARTITIONS }, (_, partition) => partition);
  const [nowMs, counts, firsts, leases, runners, paused] = await Promise.all([
    redisNowMs(redis),
    Promise.all(partitions.map((partition) => redis.zcard(keys.pending(partition)))),
    Promise.all(partitions.map((partition) => redis.zrange(keys.pending(partition), '0', '0', 'WITHSCORES'))),
    Promise.all(partitions.map((partition) => leasesOf(redis, keys, partition))),
    redis.zrangebyscore(keys.runners(), '-inf', '+inf', 'WITHSCORES'),
    redis.hexists(`${keys.bullPrefix}:${COMMAND_QUEUE}:meta`, 'paused'),
  ]);
  const waiting = firsts
    .flatMap(([target, since]) => (target === undefined ? [] : [{ target, sinceMs: Number(since) }]))
    .toSorted((a, b) => a.sinceMs - b.sinceMs);
  const all = leases.flat();
  return {
    nowMs,
    waiting,
    waitingCount: counts.reduce((sum, count) => sum + count, 0),
    running: all.filter(({ state }) => state !== 'closed'),
    closed: all.filter(({ state }) => state === 'closed'),
    runners: new Set(pairsOf(runners).flatMap(([id, seen]) => (nowMs - Number(seen) <= STUCK_MS ? [id] : []))),
    isPaused: paused === 1,
  };
}

async function leasesOf(redis: RedisConnection, keys: Keys, partition: number) {
  const targets = await redis.smembers(keys.leases(partition));
  const fields = await Promise.all(targets.map((target) => redis.hgetall(keys.lease(target))));
  return targets.flatMap((target, index) => {
    const { exec, state, runner = '', until = '0' } = fields[index] ?? {};
    return exec ? [{ target, state, runner, untilMs: Number(until) }] : [];
  });
}

function pairsOf(flat: readonly string[]): [string, string][] {
  return Array.from({ length: flat.length / 2 }, (_, at) => [flat[2 * at] ?? '', flat[2 * at + 1] ?? '']);
}

export const commands: Check = {
  name: 'commands',
  missing: withoutRedis,
  look: async (means) => judgeCommands(await look(means)),
};
