/** Writes down what clients do and see, compactly enough for millions of lines, as a history for the checker. */
import type { History, JournalEvent, Seen, Session, Submission } from './history.js';

/** A line of `witness.sh`: number, stream, execution. */
const WITNESS_LINE = /^#(\d+) ([oe]) (\S+)$/;

const STRANGE_LINES_KEPT_MAX = 10;

/** Where something stands in a log, for clients that are told. */
export interface Place {
  epoch?: string | undefined;
  offset?: number | undefined;
}

/** A session that is being recorded; see {@link Session}. */
export class RecordedSession implements Session {
  readonly seen = new Map<string, Seen[]>();
  joinedMs = Number.MAX_SAFE_INTEGER;
  joinedOrder = Number.MAX_SAFE_INTEGER;
  isCut = false;
  /** The first of the lines that no witness wrote. */
  readonly firstStrangeLines: string[] = [];
  readonly #outcomes = new Map<string, string>();
  readonly #lineCounts = new Map<string, number>();

  constructor(
    readonly client: string,
    readonly protocol: 'old' | 'v1',
    targets: ReadonlySet<string> | undefined,
    readonly order: () => number,
  ) {
    if (targets !== undefined) this.targets = targets;
  }
  readonly targets?: ReadonlySet<string>;

  /** From now on nothing may be missed. */
  joined(): void {
    this.joinedMs = Math.min(this.joinedMs, Date.now());
    this.joinedOrder = Math.min(this.joinedOrder, this.order());
  }

  /** The client leaves in the middle of things. */
  cut(): void {
    this.isCut = true;
  }

  line(target: string, stream: 'stdout' | 'stderr', text: string, { epoch, offset }: Place = {}): void {
    const [, digits, letter, execution] = WITNESS_LINE.exec(text) ?? [];
    if (execution === undefined || letter !== stream[3]) {
      if (this.firstStrangeLines.length < STRANGE_LINES_KEPT_MAX)
        this.firstStrangeLines.push(`${target} ${stream}: ${text.slice(0, 200)}`);
      return;
    }
    const number = Number(digits);
    this.#lineCounts.set(target, (this.#lineCounts.get(target) ?? 0) + 1);
    const list = this.#of(target);
    const last = list.at(-1);
    if (
      last?.kind === 'lines' &&
      last.execution === execution &&
      last.stream === stream &&
      last.to === number - 1 &&
      last.epoch === epoch &&
      (offset === undefined || (last.offset ?? 0) + number - last.from === offset)
    ) {
      last.to = number;
      return;
    }
    list.push({ kind: 'lines', execution, stream, from: number, to: number, ...placed({ epoch, offset }) });
  }

  event(
    target: string,
    kind: 'started' | 'error' | 'result',
    facts: Place & { execution?: string | undefined; outcome?: string | undefined; exitCode?: number | undefined },
  ): void {
    const { execution, outcome, exitCode, ...place } = facts;
    if (execution !== undefined && outcome !== undefined) this.#outcomes.set(execution, outcome);
    this.#of(target).push({
      kind,
      ...(execution !== undefined && { execution }),
      ...(outcome !== undefined && { outcome }),
      ...(exitCode !== undefined && { exitCode }),
      ...placed(place),
    });
  }

  gap(target: string, reason: string): void {
    this.#of(target).push({ kind: 'gap', reason });
  }

  /** Lines of a target seen so far, those that came twice included. */
  lineCount(target: string): number {
    return this.#lineCounts.get(target) ?? 0;
  }

  /** The outcome of an execution, if it was seen. */
  outcomeOf(execution: string): string | undefined {
    return this.#outcomes.get(execution);
  }

  #of(target: string): Seen[] {
    let list = this.seen.get(target);
    if (list === undefined) this.seen.set(target, (list = []));
    return list;
  }
}

export class Recorder {
  readonly submissions: Submission[] = [];
  readonly sessions: RecordedSession[] = [];
  #order = 0;

  session(client: string, protocol: 'old' | 'v1', targets?: ReadonlySet<string>): RecordedSession {
    const session = new RecordedSession(client, protocol, targets, () => this.#order);
    this.sessions.push(session);
    return session;
  }

  /** A client sends a command. Sending it again, also by another client, is the same submission. */
  submitted(client: string, command: { target: string; commandId: string; idempotent?: boolean }): Submission {
    const known = this.submissions.find((submission) => submission.commandId === command.commandId);
    if (known !== undefined) return known;
    const submission: Submission = {
      client,
      target: command.target,
      commandId: command.commandId,
      idempotent: command.idempotent ?? false,
      submittedOrder: (this.#order += 1),
      executions: [],
      refusals: [],
    };
    this.submissions.push(submission);
    return submission;
  }

  accepted(submission: Submission, execution: string): void {
    submission.acceptedOrder ??= this.#order += 1;
    if (!submission.executions.includes(execution)) submission.executions.push(execution);
  }

  refused(submission: Submission, code: string): void {
    submission.refusals.push(code);
  }

  /** An old client got an error for a target: of the last command it sent there, unless that has started. */
  refusedLast(client: string, target: string | undefined): void {
    this.submissions
      .findLast((submission) => submission.client === client && submission.target === target)
      ?.refusals.push('?');
  }

  history(journal: readonly JournalEvent[]): History {
    const ran = new Map(
      journal.flatMap((event) => (event.kind === 'start' ? [[event.commandId, event.execution] as const] : [])),
    );
    // Old clients are never told of an execution; the script is their witness.
    const submissions = this.submissions.map((submission) => {
      const execution = ran.get(submission.commandId);
      return submission.executions.length > 0 || execution === undefined
        ? submission
        : { ...submission, executions: [execution] };
    });
    return { submissions, sessions: this.sessions, journal };
  }

  /** What has yet to happen before the history is at rest, in words; undefined if it is. */
  pending(journal: readonly JournalEvent[]): string | undefined {
    const { submissions } = this.history(journal);
    for (const { commandId, client, executions, refusals, target, submittedOrder } of submissions) {
      const [execution] = executions;
      if (execution === undefined) {
        if (refusals.length > 0) continue;
        return `${commandId} of ${client} was neither accepted nor refused`;
      }
      for (const session of this.sessions) {
        if (session.isCut || submittedOrder <= session.joinedOrder || !(session.targets?.has(target) ?? true)) continue;
        if (session.protocol === 'v1' && session.outcomeOf(execution) === undefined) {
          return `${session.client} has not seen the outcome of ${execution} (${commandId} on ${target})`;
        }
      }
    }
    for (const session of this.sessions.filter(({ protocol, isCut }) => protocol === 'old' && !isCut)) {
      const missing = pendingOf(session, submissions, journal);
      if (missing !== undefined) return missing;
    }
    return undefined;
  }
}

/**
 * What an old client has yet to see. It is not told of which execution a result is, and it may see results of commands
 * that were submitted before it came: so their number alone does not say that all is there.
 */
function pendingOf(
  session: RecordedSession,
  submissions: readonly Submission[],
  journal: readonly JournalEvent[],
): string | undefined {
  const awaited = submissions.filter(
    ({ executions, submittedOrder, target }) =>
      executions.length > 0 && submittedOrder > session.joinedOrder && (session.targets?.has(target) ?? true),
  );
  for (const target of new Set(awaited.map((submission) => submission.target))) {
    const seen = session.seen.get(target) ?? [];
    const due = awaited.filter((submission) => submission.target === target);
    const results = seen.filter((one) => one.kind === 'result').length;
    if (results < due.length) return `${session.client} has seen ${results} of ${due.length} results on ${target}`;
    for (const [execution] of due.map(({ executions }) => executions)) {
      const end = journal.find((event) => event.kind === 'end' && event.execution === execution);
      if (end?.kind !== 'end') continue;
      for (const stream of ['stdout', 'stderr'] as const) {
        const highest = seen.reduce(
          (high, one) =>
            one.kind === 'lines' && one.execution === execution && one.stream === stream
              ? Math.max(high, one.to)
              : high,
          0,
        );
        if (highest < end[stream])
          return `${session.client} has seen ${stream} of ${execution} up to line ${highest} of ${end[stream]}`;
      }
    }
    if (seen.at(-1)?.kind === 'lines')
      return `${session.client} has not seen the result of what it saw last on ${target}`;
  }
  return undefined;
}

function placed({ epoch, offset }: Place): { epoch?: string; offset?: number } {
  return { ...(epoch !== undefined && { epoch }), ...(offset !== undefined && { offset }) };
}
