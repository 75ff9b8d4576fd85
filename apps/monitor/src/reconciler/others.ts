/**
 * What others do with a target: then it is not idle, whatever it reports, and what was seen of it before is old. Asked of
 * Redis just before a command is given, because that is the one moment in which it counts.
 */
import type { Keys, WorkerResource } from '@carrierarr/protocol';
import { othersWork } from '@carrierarr/reconcile';
import { type RedisConnection, targetCommands } from '@carrierarr/store';

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
    const bounds = { waitingMax: WAITING_MAX, newestMax: NEWEST_MAX };
    const store = { connection: this.#connection, keys: this.#keys };
    const { nowMs, queued, closedUntilMs, commands } = await targetCommands(store, target, bounds);
    const others = othersWork(worker, commands);
    if (queued > WAITING_MAX) others.busy = true;
    if (closedUntilMs === undefined) return others;
    return {
      busy: others.busy || closedUntilMs > nowMs,
      endedAtMs: Math.max(closedUntilMs, others.endedAtMs ?? 0),
    };
  }
}
