/** Reading executions back (C6) and the list of targets. */
import type { Execution, Keys, Outcome, TargetState } from '@carrierarr/protocol';
import { PARTITIONS, partitionOf, partitionOfExecution } from '@carrierarr/protocol';
import type { RedisConnection } from './connection.js';
import { parsedTime, parseExecution, UnreadableExecutionError } from './execution-record.js';

export interface ExecutionQuery {
  target?: string;
  state?: Execution['state'];
  limit: number;
  /** An execution id: only executions accepted before it. */
  before?: string;
}

const ALL_PARTITIONS = Array.from({ length: PARTITIONS }, (_, p) => p);
/** Ids looked at for one page, at most: bounds a query for a rare state. */
const SCAN_MAX = 5_000;

const PROGRESS_FIELDS = ['state', 'outcome', 'exit_code', 'ended_at'] as const;
export type ExecutionProgress = Pick<Execution, (typeof PROGRESS_FIELDS)[number]>;

export class ExecutionHistory {
  readonly #connection: RedisConnection;
  readonly #keys: Keys;

  constructor(connection: RedisConnection, keys: Keys) {
    this.#connection = connection;
    this.#keys = keys;
  }

  /** One execution, or undefined if it is unknown (or was kept long enough). Throws {@link UnreadableExecutionError}. */
  async get(id: string): Promise<Execution | undefined> {
    if (partitionOfExecution(id) === undefined) return undefined;
    const record = await this.#connection.hgetall(this.#keys.execution(id));
    return record['id'] === undefined ? undefined : parseExecution(Object.entries(record).flat());
  }

  /** How far one has got, without the rest of its record; undefined as for {@link get}. */
  async progress(id: string): Promise<ExecutionProgress | undefined> {
    if (partitionOfExecution(id) === undefined) return undefined;
    const key = this.#keys.execution(id);
    const [state, outcome, exitCode, endedAt] = await this.#connection.hmget(key, ...PROGRESS_FIELDS);
    if (state == null) return undefined;
    const ended_at = endedAt == null ? null : parsedTime(endedAt);
    return {
      state: state as Execution['state'],
      ...(outcome != null && { outcome: outcome as Outcome }),
      ...(exitCode != null && { exit_code: Number(exitCode) }),
      ...(ended_at !== null && { ended_at }),
    };
  }

  /** Executions, newest first, with the cursor of the next page if there may be one. Those that cannot be read are left out. */
  async list(query: ExecutionQuery): Promise<{ executions: Execution[]; next?: string }> {
    const sources =
      query.target === undefined
        ? ALL_PARTITIONS.map((p) => this.#keys.executions(p))
        : [this.#keys.executionsOf(query.target)];
    const executions: Execution[] = [];
    let before = query.before;
    let scanned = 0;
    while (executions.length < query.limit && scanned < SCAN_MAX) {
      const ids = await this.#newest(sources, before, query.limit);
      if (ids.length === 0) return { executions };
      scanned += ids.length;
      before = ids.at(-1) as string;
      const found = await Promise.all(ids.map((id) => this.get(id).catch(ifUnreadable)));
      for (const execution of found) {
        if (execution === undefined || (query.state !== undefined && execution.state !== query.state)) continue;
        executions.push(execution);
        if (executions.length === query.limit) return { executions, next: execution.id };
      }
    }
    return before === undefined ? { executions } : { executions, next: before };
  }

  /** The newest ids of several sorted sets, older than `before`. Ids begin with a ULID, so they sort by time. */
  async #newest(sources: readonly string[], before: string | undefined, limit: number): Promise<string[]> {
    // Scores are Redis' clock and ids the gateway's: take all of the boundary's millisecond and a little more.
    const upper = before === undefined ? '+inf' : String(ulidTimeMs(before) + CLOCK_SKEW_MS);
    const lists = await Promise.all(
      sources.map((key) => this.#connection.zrevrangebyscore(key, upper, '-inf', 'LIMIT', 0, limit + 200)),
    );
    const ids = lists.flat().filter((id) => before === undefined || id < before);
    ids.sort((a, b) => (a < b ? 1 : -1));
    return ids.slice(0, limit);
  }

  /** Known targets, most recently active first. */
  async targets(limit: number): Promise<TargetState[]> {
    const lists = await Promise.all(
      ALL_PARTITIONS.map((p) => this.#connection.zrevrange(this.#keys.targets(p), 0, limit - 1, 'WITHSCORES')),
    );
    const active: { target: string; atMs: number }[] = [];
    for (const list of lists) {
      for (let i = 0; i + 1 < list.length; i += 2)
        active.push({ target: list[i] as string, atMs: Number(list[i + 1]) });
    }
    active.sort((a, b) => b.atMs - a.atMs);
    return Promise.all(active.slice(0, limit).map(({ target, atMs }) => this.#target(target, atMs)));
  }

  /** One target, if it is known. */
  async target(target: string): Promise<TargetState | undefined> {
    const atMs = await this.#connection.zscore(this.#keys.targets(partitionOf(target)), target);
    return atMs === null ? undefined : this.#target(target, Number(atMs));
  }

  async #target(target: string, atMs: number): Promise<TargetState> {
    const [queued, [running, state, until], [epoch, last]] = await Promise.all([
      this.#connection.llen(this.#keys.queue(target)),
      this.#connection.hmget(this.#keys.lease(target), 'exec', 'state', 'until'),
      this.#connection.hmget(this.#keys.logMeta(target), 'epoch', 'last'),
    ]);
    return {
      target,
      queued,
      last_activity: new Date(atMs).toISOString(),
      last_offset: Number(last ?? 0),
      ...(epoch && { epoch }),
      ...(running && state === 'running' && { running }),
      ...(state === 'closed' && { blocked_until: new Date(Number(until)).toISOString() }),
    };
  }
}

/** One that only a newer version can read must not hide all others. */
function ifUnreadable(error: unknown): undefined {
  if (!(error instanceof UnreadableExecutionError)) throw error;
}

/** Most by which a gateway's clock may differ from Redis' for pages to miss nothing. */
const CLOCK_SKEW_MS = 60_000;
const CROCKFORD = '0123456789abcdefghjkmnpqrstvwxyz';

function ulidTimeMs(id: string): number {
  let ms = 0;
  for (const letter of id.slice(0, 10)) ms = ms * 32 + CROCKFORD.indexOf(letter);
  return ms;
}
