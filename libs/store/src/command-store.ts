/**
 * Commands from acceptance to outcome, as typed calls of the scripts in `lua/scripts.ts`. At most one of the calls
 * for a target has an effect at a time (Redis runs scripts alone); every effect of a runner carries its fence.
 */
import { createHash } from 'node:crypto';
import type { Execution, ExecutorKind, Keys, LogEvent, Outcome } from '@carrierarr/protocol';
import { EXECUTION_VERSION, executionIdOf, PARTITIONS, partitionOf } from '@carrierarr/protocol';
import { monotonicFactory } from 'ulid';
import { callScript, type RedisConnection } from './connection.js';
import { parseExecution } from './execution-record.js';
import { entryArguments, type HistoryBounds, targetArguments } from './lua/target-script.js';
import { type TargetCommands, targetCommands } from './target-commands.js';

/** What a client asks for, with where it came from. */
export interface Submission {
  target: string;
  command: string;
  args: string[];
  subject: string;
  address: string;
  gateway: string;
  clientId?: string;
  timeoutMs?: number;
  /** Who is to run it; `script` when left out. */
  executor?: ExecutorKind;
  idempotent: boolean;
  /** Of executor `agent`: key of the node. */
  node?: string;
  /**
   * It only asks for the state, and nobody but who asked is to notice: no event and no line of it comes to the log, no
   * list names it. Its {@link Ending.answer} is kept for {@link PROBE_KEPT_MS}.
   */
  probe?: boolean;
  /** For commands of the leading monitor: refused as 'deposed' where a newer leader is known. */
  leaderFence?: number;
  /** Of a leader's: refused as 'busy' where something runs or waits, or may still run after a loss. */
  onlyIfIdle?: boolean;
}

export type SubmitAnswer =
  /** `position`: commands of the target that come before it, the running one included. */
  | { kind: 'accepted'; execution: string; position: number; duplicate: boolean }
  | { kind: 'conflict'; execution: string }
  | { kind: 'queue-full'; length: number }
  | { kind: 'too-many-pending'; targets: number };

/** What a leader is answered. `fence`: of the newest leader. */
export type FencedSubmitAnswer = SubmitAnswer | { kind: 'deposed'; fence: number } | { kind: 'busy' };

export type ClaimAnswer =
  | { kind: 'claimed'; execution: Execution; fence: number }
  /** `closedUntilMs`: Redis' time until which a lost runner keeps the target closed; 0 if a command is running. */
  | { kind: 'busy'; closedUntilMs: number }
  | { kind: 'empty' }
  /** What is next was accepted by a newer release, and waits for a runner of one. */
  | { kind: 'newer'; execution: string; version: number };

export type RenewAnswer = { kind: 'ok'; killRequestedBy?: string } | { kind: 'fenced' };

export type AppendAnswer =
  | { kind: 'ok'; last: number }
  /** The entry was appended before (its acknowledgement was lost). */
  | { kind: 'repeated' }
  /** Redis has forgotten what it acknowledged: send again from `known + 1`. */
  | { kind: 'hole'; known: number }
  | { kind: 'fenced' };

export type FinishAnswer =
  | { kind: 'ok'; more: boolean }
  | { kind: 'repeated' }
  | { kind: 'hole'; known: number }
  | { kind: 'fenced' };

/** How an execution ended, as its runner tells it. */
export interface Ending {
  outcome: Outcome;
  exitCode: number;
  signal?: string;
  reason?: string;
  /** Shown to clients before the result. */
  error?: { code: string; text: string };
  lines: number;
  truncatedLines: number;
  /** Of a probe: the last line that it wrote to standard output. */
  answer?: string;
  /** Sequence of its newest entry. */
  sequence: number;
}

export type KillAnswer =
  | { kind: 'cancelled'; execution: string }
  | { kind: 'running'; execution: string; runner: string }
  | { kind: 'ended'; execution: string }
  | { kind: 'none' };

/** The lease of a target, as a sweeper sees it. */
export interface Lease {
  target: string;
  execution: string;
  /** Of the execution's present start. */
  fence: number;
  state: 'running' | 'closed';
  runner: string;
  incarnation: string;
  /** Number of renewals so far, as text: only compared for equality. */
  beat: string;
  closedUntilMs: number;
}

export interface CommandStoreOptions {
  connection: RedisConnection;
  keys: Keys;
  history: HistoryBounds;
  /** Most waiting commands of one target. */
  queueLengthMax: number;
  /** Most targets with waiting commands, in the installation. */
  pendingTargetsMax: number;
  /** How long an idempotency id is remembered, ms. */
  idempotencyMs: number;
}

/** Starts of an idempotent command, the first included. */
export const IDEMPOTENT_STARTS_MAX = 3;

/** Targets whose arguments are kept. A runner writes to as many as it runs commands at once. */
const ENTRY_ARGUMENTS_MAX = 1_000;

/** Ids of one gateway sort in the order it submitted them, also within a millisecond. */
const ulid = monotonicFactory();

export class CommandStore {
  readonly #o: CommandStoreOptions;

  /** What each entry of a target is appended with: made for each one anew it would cost more than the entry. */
  readonly #entryArguments = new Map<string, (string | number)[]>();

  constructor(options: CommandStoreOptions) {
    this.#o = options;
  }

  #callEntry(
    name: 'carrierarrAppend' | 'carrierarrAppendLog',
    target: string,
    own: readonly (string | number | Buffer)[],
  ) {
    let common = this.#entryArguments.get(target);
    if (common === undefined) {
      if (this.#entryArguments.size >= ENTRY_ARGUMENTS_MAX) this.#entryArguments.clear();
      common = entryArguments(this.#o.keys, target, this.#o.history);
      this.#entryArguments.set(target, common);
    }
    return callScript(this.#o.connection, name, [...common, ...own]);
  }

  #call(name: Parameters<typeof callScript>[1], target: string, own: readonly (string | number | Buffer)[]) {
    return callScript(this.#o.connection, name, [...targetArguments(this.#o.keys, target, this.#o.history), ...own]);
  }

  /**
   * Accepts a command: from when this resolves to `accepted` it will run at most once, after all that were accepted
   * for its target before. It is started by a drain job, which the caller must add (the sweeper does if it cannot).
   * A rejection leaves unknown whether it was accepted; with a `clientId`, submit again to find out.
   */
  submit(submission: Submission & { leaderFence?: never; onlyIfIdle?: never }): Promise<SubmitAnswer>;
  submit(submission: Submission & { onlyIfIdle?: never }): Promise<Exclude<FencedSubmitAnswer, { kind: 'busy' }>>;
  submit(submission: Submission): Promise<FencedSubmitAnswer>;
  async submit(submission: Submission): Promise<FencedSubmitAnswer> {
    const { target, subject, clientId } = submission;
    const record: string[] = [
      ...['v', String(EXECUTION_VERSION)],
      ...['command', submission.command, 'args', JSON.stringify(submission.args), 'subject', subject],
      ...[
        'address',
        submission.address,
        'gateway',
        submission.gateway,
        'idempotent',
        submission.idempotent ? '1' : '0',
      ],
    ];
    if (clientId !== undefined) record.push('client_id', clientId);
    if (submission.node !== undefined) record.push('node', submission.node);
    if (submission.timeoutMs !== undefined) record.push('timeout_ms', String(Math.round(submission.timeoutMs)));
    if (submission.executor !== undefined) record.push('executor', submission.executor);
    if (submission.probe === true) record.push('probe', '1');
    const [what, value, position] = await this.#call('carrierarrSubmit', target, [
      executionIdOf(ulid(), target),
      clientId === undefined ? '' : this.#o.keys.idempotency(target, subject, clientId),
      this.#o.idempotencyMs,
      digestOf(submission),
      this.#o.queueLengthMax,
      Math.max(1, Math.ceil(this.#o.pendingTargetsMax / PARTITIONS)),
      submission.leaderFence ?? '',
      submission.onlyIfIdle ? '1' : '',
      submission.probe ? '1' : '',
      ...record,
    ]);
    switch (what) {
      case 'accepted':
      case 'duplicate':
        return {
          kind: 'accepted',
          execution: String(value),
          position: Number(position),
          duplicate: what === 'duplicate',
        };
      case 'conflict':
        return { kind: 'conflict', execution: String(value) };
      case 'queue_full':
        return { kind: 'queue-full', length: Number(value) };
      case 'deposed':
        return { kind: 'deposed', fence: Number(value) };
      case 'busy':
        return { kind: 'busy' };
      default:
        return { kind: 'too-many-pending', targets: Number(value) };
    }
  }

  /** What {@link submit} would answer if this was submitted before, under the same id; undefined if it was not. Accepts nothing. */
  async recall(submission: Submission): Promise<Extract<SubmitAnswer, { kind: 'accepted' | 'conflict' }> | undefined> {
    const { target, subject, clientId } = submission;
    if (clientId === undefined) return undefined;
    const known = await this.#o.connection.get(this.#o.keys.idempotency(target, subject, clientId));
    const [, execution, digest] = /^(\S+) (.*)$/s.exec(known ?? '') ?? [];
    if (execution === undefined) return undefined;
    if (digest !== digestOf(submission)) return { kind: 'conflict', execution };
    return { kind: 'accepted', execution, position: 0, duplicate: true };
  }

  /** The execution first accepted for a subject's idempotency id, while that is remembered. */
  async executionOfToken(target: string, subject: string, clientId: string): Promise<string | undefined> {
    const known = await this.#o.connection.get(this.#o.keys.idempotency(target, subject, clientId));
    return known?.split(' ', 1)[0];
  }

  /** Takes the target's next command for a runner, if the target is free. A claimed command is this runner's alone. */
  async claim(target: string, runner: { id: string; incarnation: string }): Promise<ClaimAnswer> {
    const [what, first, fence, record] = await this.#call('carrierarrClaim', target, [runner.id, runner.incarnation]);
    if (what === 'claimed') {
      return { kind: 'claimed', execution: parseExecution(record as string[]), fence: Number(fence) };
    }
    if (what === 'busy') return { kind: 'busy', closedUntilMs: Number(first) };
    if (what === 'newer') return { kind: 'newer', execution: String(first), version: Number(fence) };
    return { kind: 'empty' };
  }

  /** Says that the execution's runner lives; learns of a kill request. */
  async renew(target: string, fence: number): Promise<RenewAnswer> {
    const [what, kill] = await callScript(this.#o.connection, 'carrierarrRenew', [
      this.#o.keys.lease(target),
      String(fence),
    ]);
    if (what === 'fenced') return { kind: 'fenced' };
    return typeof kill === 'string' && kill !== '' ? { kind: 'ok', killRequestedBy: kill } : { kind: 'ok' };
  }

  /** Appends an entry of a running execution to its target's log and publishes it, once for each `sequence`. */
  async append(target: string, fence: number, sequence: number, lines: number, entry: Buffer): Promise<AppendAnswer> {
    const [what, value] = await this.#callEntry('carrierarrAppend', target, [String(fence), sequence, lines, entry]);
    if (what === 'ok') return { kind: 'ok', last: Number(value) };
    if (what === 'hole') return { kind: 'hole', known: Number(value) };
    return { kind: what === 'repeated' ? 'repeated' : 'fenced' };
  }

  /** Appends lines that belong to no execution, such as what an agent logs of itself. Resolves to the last offset. */
  async appendLog(target: string, lines: number, entry: Buffer): Promise<number> {
    return Number((await this.#callEntry('carrierarrAppendLog', target, [lines, entry]))[1]);
  }

  /** Writes the outcome and frees the target. */
  async finish(target: string, execution: string, fence: number, ending: Ending): Promise<FinishAnswer> {
    const fields = ['outcome', ending.outcome, 'exit_code', String(ending.exitCode)];
    fields.push('lines', String(ending.lines), 'truncated_lines', String(ending.truncatedLines));
    if (ending.signal !== undefined) fields.push('signal', ending.signal);
    if (ending.reason !== undefined) fields.push('reason', ending.reason);
    if (ending.answer !== undefined) fields.push('answer', ending.answer);
    const result: LogEvent = {
      type: 'result',
      outcome: ending.outcome,
      exit_code: ending.exitCode,
      ...(ending.signal !== undefined && { signal: ending.signal }),
      ...(ending.truncatedLines > 0 && { truncated_lines: ending.truncatedLines }),
    };
    const [what, value] = await this.#call('carrierarrFinish', target, [
      execution,
      String(fence),
      ending.sequence,
      ending.error === undefined ? '' : errorEvent(ending.error.code, ending.error.text),
      JSON.stringify(result),
      ...fields,
    ]);
    if (what === 'ok') return { kind: 'ok', more: Number(value) === 1 };
    if (what === 'hole') return { kind: 'hole', known: Number(value) };
    return { kind: what === 'repeated' ? 'repeated' : 'fenced' };
  }

  /**
   * Asks for the end of what runs on a target (else cancels what is next there), or of one execution. A running one
   * ends by its runner: tell it over the kill channel; it also finds the request at its next renewal.
   */
  async kill(target: string, execution: string | undefined, by: string): Promise<KillAnswer> {
    const never: LogEvent = { type: 'result', outcome: 'killed', exit_code: -1 };
    const [what, id, runner] = await this.#call('carrierarrKill', target, [execution ?? '', by, JSON.stringify(never)]);
    if (what === 'running') return { kind: 'running', execution: String(id), runner: String(runner) };
    if (what === 'cancelled' || what === 'ended') return { kind: what, execution: String(id) };
    return { kind: 'none' };
  }

  /**
   * Declares an execution's runner lost, if the lease still is as it was observed. The target stays closed for
   * `closedMs`, until the runner must have ended the script wherever it is.
   */
  async reap(lease: Lease, closedMs: number, options: { anyBeat?: boolean; unlessIncarnation?: string } = {}) {
    const text =
      `Runner ${lease.runner} died or lost touch while it ran this command; how far the command got is unknown. ` +
      `The target takes its next command once the old script is known to have ended.`;
    const result: LogEvent = { type: 'result', outcome: 'lost', exit_code: -1 };
    const [what] = await this.#call('carrierarrReap', lease.target, [
      lease.execution,
      options.anyBeat ? '' : lease.beat,
      closedMs,
      IDEMPOTENT_STARTS_MAX,
      errorEvent('runner_lost', text),
      JSON.stringify(result),
      options.unlessIncarnation ?? '',
    ]);
    return what as 'lost' | 'requeued' | 'alive';
  }

  /** What is going on on a target, and went on last. */
  commandsOn(target: string, bounds: { waitingMax: number; newestMax: number }): Promise<TargetCommands> {
    return targetCommands(this.#o, target, bounds);
  }

  /** The leases of one partition. */
  async leases(partition: number): Promise<Lease[]> {
    const targets = await this.#o.connection.smembers(this.#o.keys.leases(partition));
    const found = await Promise.all(targets.map((target) => this.lease(target)));
    return found.filter((lease) => lease !== undefined);
  }

  /** The lease of one target, if it has one. */
  async lease(target: string): Promise<Lease | undefined> {
    const fields = await this.#o.connection.hgetall(this.#o.keys.lease(target));
    if (!fields['exec']) return undefined;
    return {
      target,
      execution: fields['exec'],
      fence: Number(fields['fence'] ?? 0),
      state: fields['state'] === 'closed' ? 'closed' : 'running',
      runner: fields['runner'] ?? '',
      incarnation: fields['incarnation'] ?? '',
      beat: fields['beat'] ?? '0',
      closedUntilMs: Number(fields['until'] ?? 0),
    };
  }

  /** Targets of a partition that have had commands waiting since before `beforeMs` (Redis' time), at most `limit`. */
  async pendingSince(partition: number, beforeMs: number, limit: number): Promise<string[]> {
    return this.#o.connection.zrangebyscore(this.#o.keys.pending(partition), '-inf', beforeMs, 'LIMIT', 0, limit);
  }

  /** Number of targets with waiting commands in a partition. */
  async pendingCount(partition: number): Promise<number> {
    return this.#o.connection.zcard(this.#o.keys.pending(partition));
  }

  /** Redis' clock, epoch ms. */
  async redisNowMs(): Promise<number> {
    const [seconds, micros] = await this.#o.connection.time();
    return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
  }

  /** Number of waiting commands of a target. */
  async queueLength(target: string): Promise<number> {
    return this.#o.connection.llen(this.#o.keys.queue(target));
  }

  /** The partition whose lists hold a target. */
  partition(target: string): number {
    return partitionOf(target);
  }
}

function errorEvent(code: string, error: string): string {
  return JSON.stringify({ type: 'error', code, error } satisfies LogEvent);
}

/** What must be equal for a repeated idempotency id to mean the same command; not which leader repeats it. */
function digestOf({ command, args, timeoutMs, idempotent, executor }: Submission): string {
  // Older versions did not know executors, and remember digests without.
  const rest = executor === undefined ? [] : [executor];
  return createHash('sha256')
    .update(JSON.stringify([command, args, timeoutMs, idempotent, ...rest]))
    .digest('base64url');
}
