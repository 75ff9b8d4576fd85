/**
 * What others do with a target: then it is not idle, whatever it reports, and what was seen of it before is old. Asked of
 * Redis just before a command is given, because that is the one moment in which it counts.
 */
import type { Keys, WorkerResource } from '@carrierarr/protocol';
import { othersWork } from '@carrierarr/reconcile';
import type { RedisConnection } from '@carrierarr/store';

/** Waiting commands looked at; with more than these some are surely not ours, which have one at a time. */
const WAITING_MAX = 8;
/** Newest executions looked at. What ended since the last poll is among them: monitors ask once a poll. */
const NEWEST_MAX = 10;

export interface OthersWork {
  /** Another command runs or waits, or the script of a lost runner may still be at work. */
  busy: boolean;
  /** When the last of them ended, epoch ms, if it is known. */
  endedAtMs: number | undefined;
}

export class Others {
  readonly #connection: RedisConnection;
  readonly #keys: Keys;

  constructor({ connection, keys }: { connection: RedisConnection; keys: Keys }) {
    this.#connection = connection;
    this.#keys = keys;
  }

  /** What others than a Worker's last command do on its target. */
  async on(target: string, worker: Pick<WorkerResource, 'metadata' | 'status'>): Promise<OthersWork> {
    const [redis, keys] = [this.#connection, this.#keys];
    // Sent together and answered in this order: a command that starts in between is found running, if not waiting.
    const [waiting, [leased, state, until], newest, [seconds, micros]] = await Promise.all([
      redis.lrange(keys.queue(target), 0, WAITING_MAX),
      redis.hmget(keys.lease(target), 'exec', 'state', 'until'),
      redis.zrevrange(keys.executionsOf(target), 0, NEWEST_MAX - 1),
      redis.time(),
    ]);
    const running = leased && state === 'running' ? [leased] : [];
    const ids = [...new Set([...running, ...waiting, ...newest])];
    const records = await Promise.all(
      ids.map((id) => redis.hmget(keys.execution(id), 'subject', 'client_id', 'state', 'ended_at')),
    );
    const others = othersWork(
      worker,
      records.flatMap(([subject, token, is, endedAt]) =>
        subject
          ? [{ subject, token: token ?? undefined, hasEnded: is === 'ended', endedAtMs: Number(endedAt ?? 0) }]
          : [],
      ),
    );
    if (waiting.length > WAITING_MAX) others.busy = true;
    if (!leased || state !== 'closed') return others;
    const untilMs = Number(until ?? 0);
    return {
      busy: others.busy || untilMs > Number(seconds) * 1000 + Number(micros) / 1000,
      endedAtMs: Math.max(untilMs, others.endedAtMs ?? 0),
    };
  }
}
