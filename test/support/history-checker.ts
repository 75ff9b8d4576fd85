/**
 * Judges a history: nothing lost, doubled or reordered for any client, no command run twice, one at a time on each
 * target and in the order of acceptance, one outcome for each execution, the same for everybody. Pure.
 *
 * The truth is the journal that the scripts wrote themselves, never what a gateway or runner told.
 */
import type { History, JournalEvent, Seen, SeenLines, Session, Submission } from './history.js';

export interface HistoryReport {
  /** Lines delivered, over all sessions. */
  lines: number;
  clients: number;
  executions: number;
  lost: number;
  doubled: number;
  reordered: number;
  /** Starts of a command beyond its first. */
  doubleExecutions: number;
  /** Each thing found, in words; empty if all is well. Others than the five counted kinds are here only. */
  violations: string[];
}

/** The report in one line. */
export function summarise(scenario: string, report: HistoryReport): string {
  const { lines, clients, lost, doubled, reordered, doubleExecutions } = report;
  return (
    `history: ${scenario}: ${lines} lines to ${clients} clients, ` +
    `${lost} lost, ${doubled} doubled, ${reordered} reordered, ${doubleExecutions} double executions`
  );
}

/** A stretch of line numbers, both ends included. */
type Range = readonly [from: number, to: number];

/** Compares numbers as they arrived with what was expected. `from`, `to`: bounds that must be there, if they are known. */
export function tally(
  arrived: readonly Range[],
  expected: { from?: number; to?: number },
): { lost: number; doubled: number; reordered: number } {
  let doubled = 0;
  let reordered = 0;
  let highest = -Infinity;
  let known: Range[] = [];
  for (const [from, to] of arrived) {
    const repeated = known.reduce((sum, [a, b]) => sum + Math.max(0, Math.min(b, to) - Math.max(a, from) + 1), 0);
    doubled += repeated;
    // What comes late, and was not there before.
    reordered += Math.max(0, Math.min(to, highest) - from + 1 - repeated);
    highest = Math.max(highest, to);
    known = merge(known, [from, to]);
  }
  const first = expected.from ?? known[0]?.[0] ?? 1;
  const last = Math.max(expected.to ?? 0, highest, first - 1);
  const present = known.reduce((sum, [a, b]) => sum + Math.max(0, Math.min(b, last) - Math.max(a, first) + 1), 0);
  return { lost: last - first + 1 - present, doubled, reordered };
}

function merge(ranges: readonly Range[], added: Range): Range[] {
  let [from, to] = added;
  const apart: Range[] = [];
  for (const range of ranges) {
    if (range[1] < from - 1 || range[0] > to + 1) apart.push(range);
    else [from, to] = [Math.min(from, range[0]), Math.max(to, range[1])];
  }
  return [...apart, [from, to] as const].toSorted((a, b) => a[0] - b[0]);
}

type Start = Extract<JournalEvent, { kind: 'start' }>;
type End = Extract<JournalEvent, { kind: 'end' }>;

/** Judges a history that has come to rest: every accepted command has ended, and uncut sessions have seen it. */
export function checkHistory(history: History): HistoryReport {
  return new Checker(history).report();
}

class Checker {
  readonly #history: History;
  /** First start of each execution, in order. */
  readonly #starts = new Map<string, Start>();
  readonly #ends = new Map<string, End>();
  /** Executions that somebody was told are lost. */
  readonly #lost = new Set<string>();
  readonly #newestFence = new Map<string, number>();
  readonly #report: HistoryReport;

  constructor(history: History) {
    this.#history = history;
    this.#report = {
      lines: 0,
      clients: new Set(history.sessions.map((session) => session.client)).size,
      executions: 0,
      lost: 0,
      doubled: 0,
      reordered: 0,
      doubleExecutions: 0,
      violations: [],
    };
  }

  report(): HistoryReport {
    for (const { seen } of this.#history.sessions) {
      for (const one of [...seen.values()].flat()) {
        if (one.kind === 'result' && one.outcome === 'lost' && one.execution !== undefined)
          this.#lost.add(one.execution);
      }
    }
    this.#checkExecutions();
    this.#checkOrder();
    for (const session of this.#history.sessions) this.#checkSession(session);
    this.#checkOutcomes();
    this.#checkInterleaving();
    this.#report.executions = this.#starts.size;
    return this.#report;
  }

  #found(text: string): void {
    this.#report.violations.push(text);
  }

  // --- what scripts did -------------------------------------------------------------------------------------------

  #checkExecutions(): void {
    const { submissions, journal } = this.#history;
    const repeatable = new Set(
      submissions.filter((submission) => submission.idempotent).map(({ commandId }) => commandId),
    );
    const startsOf = new Map<string, Start[]>();
    const running = new Map<string, { execution: string; hasEnded: boolean }>();
    for (const event of journal) {
      if (event.kind === 'start') {
        if (!this.#starts.has(event.execution)) this.#starts.set(event.execution, event);
        startsOf.set(event.commandId, [...(startsOf.get(event.commandId) ?? []), event]);
        const before = running.get(event.target);
        const fence = this.#newestFence.get(event.target) ?? 0;
        if (before !== undefined && event.fence <= fence) {
          this.#found(`execution ${event.execution} on ${event.target} has fence ${event.fence}, after ${fence}`);
        }
        this.#newestFence.set(event.target, event.fence);
        running.set(event.target, { execution: event.execution, hasEnded: false });
      } else if (event.kind === 'end') {
        this.#ends.set(event.execution, event);
        const target = this.#starts.get(event.execution)?.target;
        const current = target === undefined ? undefined : running.get(target);
        if (current !== undefined && current.execution !== event.execution) {
          this.#found(`two at a time on ${target}: ${event.execution} ended after ${current.execution} had started`);
        }
      } else if (event.kind === 'overlap') {
        this.#found(`two at a time: ${event.execution} started while the script of ${event.other} lived`);
      }
    }
    const sent = new Set(submissions.map((submission) => submission.commandId));
    for (const [commandId, starts] of startsOf) {
      if (!sent.has(commandId)) this.#found(`command ${commandId} was executed, but nobody sent it`);
      if (starts.length === 1 || repeatable.has(commandId)) continue;
      this.#report.doubleExecutions += starts.length - 1;
      this.#found(
        `command ${commandId} was executed ${starts.length} times: ${starts.map((start) => start.execution).join(', ')}`,
      );
    }
    for (const { commandId, executions, client } of submissions) {
      if (executions.length > 1) this.#found(`${client} was told of ${executions.length} executions of ${commandId}`);
      const started = startsOf.get(commandId)?.[0];
      if (started !== undefined && executions[0] !== undefined && started.execution !== executions[0]) {
        this.#found(`command ${commandId} was accepted as ${executions[0]} but ran as ${started.execution}`);
      }
    }
  }

  /** If one command was accepted before another of its target was sent, it starts first. */
  #checkOrder(): void {
    const places = new Map([...this.#starts.values()].map((start, place) => [start.commandId, place]));
    const started = this.#history.submissions
      .filter(({ commandId, idempotent }) => places.has(commandId) && !idempotent)
      .toSorted((a, b) => (places.get(a.commandId) ?? 0) - (places.get(b.commandId) ?? 0));
    const earliestAccepted = new Map<string, Submission>();
    // From the last start to the first: nothing that starts later may have been accepted before this was sent.
    for (const submission of started.toReversed()) {
      const { target, commandId, submittedOrder, acceptedOrder } = submission;
      const later = earliestAccepted.get(target);
      if (later !== undefined && later.acceptedOrder !== undefined && later.acceptedOrder < submittedOrder) {
        this.#found(`${later.commandId} on ${target} was accepted before ${commandId} was sent, but started after it`);
      }
      const isEarlier = (acceptedOrder ?? Infinity) < (later?.acceptedOrder ?? Infinity);
      if (isEarlier) earliestAccepted.set(target, submission);
    }
  }

  // --- what clients saw -------------------------------------------------------------------------------------------

  #checkSession(session: Session): void {
    const targets = new Set([...this.#starts.values()].map((start) => start.target));
    for (const target of session.seen.keys()) targets.add(target);
    for (const target of targets) {
      if (session.targets !== undefined && !session.targets.has(target)) continue;
      const seen = session.seen.get(target) ?? [];
      this.#checkLines(session, target, seen);
      if (session.protocol === 'v1') this.#checkOffsets(session, target, seen);
    }
  }

  #checkLines(session: Session, target: string, seen: readonly Seen[]): void {
    const lines = seen.filter((one) => one.kind === 'lines');
    for (const gap of seen.filter((one) => one.kind === 'gap')) {
      this.#found(`${session.client} was told of a gap on ${target}: ${gap.reason}`);
    }
    const onTarget = [...this.#starts.values()]
      .filter((start) => start.target === target)
      .map((start) => start.execution);
    const lastSeen = Math.max(-1, ...lines.map((line) => onTarget.indexOf(line.execution)));
    for (const execution of new Set([...onTarget, ...lines.map((line) => line.execution)])) {
      const place = onTarget.indexOf(execution);
      if (place < 0) {
        this.#found(`${session.client} saw lines of ${execution} on ${target}, which never started there`);
        continue;
      }
      const mine = lines.filter((line) => line.execution === execution);
      const isWhole = (this.#starts.get(execution)?.ms ?? 0) > session.joinedMs;
      // How far a lost one got is unknown: what its runner had read but not written is gone with it.
      const isToItsEnd = (!session.isCut || place < lastSeen) && !this.#lost.has(execution);
      if (mine.length === 0 && !(isWhole && isToItsEnd)) continue;
      for (const stream of ['stdout', 'stderr'] as const) {
        this.#checkStream(session, execution, stream, mine, { isWhole, isToItsEnd });
      }
    }
    this.#checkExecutionsInSequence(session, target, lines, onTarget);
  }

  #checkStream(
    session: Session,
    execution: string,
    stream: 'stdout' | 'stderr',
    lines: readonly SeenLines[],
    { isWhole, isToItsEnd }: { isWhole: boolean; isToItsEnd: boolean },
  ): void {
    const arrived = lines.filter((line) => line.stream === stream).map((line) => [line.from, line.to] as const);
    this.#report.lines += arrived.reduce((sum, [from, to]) => sum + to - from + 1, 0);
    const written = this.#ends.get(execution)?.[stream];
    const result = tally(arrived, {
      ...(isWhole && { from: 1 }),
      ...(isToItsEnd && written !== undefined && (isWhole || arrived.length > 0) && { to: written }),
    });
    this.#report.lost += result.lost;
    this.#report.doubled += result.doubled;
    this.#report.reordered += result.reordered;
    const highest = Math.max(0, ...arrived.map(([, to]) => to));
    if (written !== undefined && highest > written) {
      this.#found(`${session.client} saw line ${highest} of ${stream} of ${execution}, which wrote ${written}`);
    }
    for (const [what, count] of Object.entries(result)) {
      if (count > 0)
        this.#found(
          `${session.client}: ${count} lines ${what} of ${stream} of ${execution}: ${describe(arrived)} of ${written ?? '?'}`,
        );
    }
  }

  /** Lines of an execution never come after lines of a later one. */
  #checkExecutionsInSequence(
    session: Session,
    target: string,
    lines: readonly SeenLines[],
    onTarget: readonly string[],
  ): void {
    let newest = -1;
    for (const { execution, from } of lines) {
      const place = onTarget.indexOf(execution);
      if (place >= 0 && place < newest) {
        this.#report.reordered += 1;
        this.#found(
          `${session.client}: line ${from} of ${execution} on ${target} came after lines of ${onTarget[newest]}`,
        );
      }
      newest = Math.max(newest, place);
    }
  }

  /** To whom asked for offsets, everything in the log comes, so they follow each other without holes. */
  #checkOffsets(session: Session, target: string, seen: readonly Seen[]): void {
    let next: number | undefined;
    let epoch: string | undefined;
    for (const one of seen) {
      if (one.kind === 'gap' || one.offset === undefined) continue;
      if (one.epoch === epoch && next !== undefined && one.offset !== next) {
        this.#found(
          `${session.client}: offset ${one.offset} on ${target} where ${next} was due (${one.kind} of ${one.execution})`,
        );
      }
      epoch = one.epoch;
      next = one.offset + (one.kind === 'lines' ? one.to - one.from + 1 : 1);
    }
  }

  // --- outcomes ---------------------------------------------------------------------------------------------------

  #checkOutcomes(): void {
    const outcomes = new Map<string, string>();
    for (const session of this.#history.sessions) {
      if (session.protocol === 'old') {
        this.#countResults(session);
        continue;
      }
      for (const [target, seen] of session.seen) this.#checkResults(session, target, seen, outcomes);
      for (const submission of this.#expected(session)) {
        const [execution] = submission.executions;
        const seen = session.seen.get(submission.target) ?? [];
        if (!seen.some((one) => one.kind === 'result' && one.execution === execution)) {
          this.#found(`${session.client} saw no outcome of ${execution} (${submission.commandId})`);
        }
      }
    }
    for (const { commandId, executions } of this.#history.submissions) {
      const outcome = outcomes.get(executions[0] ?? '');
      const hasStarted = [...this.#starts.values()].some((start) => start.commandId === commandId);
      if ((outcome === 'succeeded' || outcome === 'failed') && !hasStarted) {
        this.#found(`${executions[0]} (${commandId}) ended as ${outcome}, but its script never started`);
      }
    }
  }

  #checkResults(session: Session, target: string, seen: readonly Seen[], outcomes: Map<string, string>): void {
    const ended = new Set<string>();
    for (const one of seen) {
      const execution = one.kind === 'gap' ? undefined : one.execution;
      if (execution === undefined) continue;
      if (one.kind === 'lines' && ended.has(execution)) {
        this.#report.reordered += 1;
        this.#found(`${session.client}: a line of ${execution} on ${target} came after its outcome`);
      }
      if (one.kind !== 'result') continue;
      if (ended.has(execution)) this.#found(`${session.client} saw more than one outcome of ${execution}`);
      ended.add(execution);
      const known = outcomes.get(execution);
      const outcome = one.outcome ?? '?';
      if (known !== undefined && known !== outcome) this.#found(`${execution} ended as ${known} and as ${outcome}`);
      outcomes.set(execution, outcome);
      const end = this.#ends.get(execution);
      if (end !== undefined && outcome === 'succeeded' && end.exitCode !== 0) {
        this.#found(`${execution} ended as succeeded, but its script with ${end.exitCode}`);
      }
    }
  }

  /** Old clients are not told of which execution a result is, so there is only their number. */
  #countResults(session: Session): void {
    const expected = this.#expected(session);
    if (session.isCut) return;
    for (const target of new Set(expected.map((submission) => submission.target))) {
      const due = expected.filter((submission) => submission.target === target).length;
      const all = this.#accepted().filter((submission) => submission.target === target).length;
      const got = (session.seen.get(target) ?? []).filter((one) => one.kind === 'result').length;
      if (got < due || got > all) {
        this.#found(
          `${session.client} saw ${got} results on ${target}, expected ${due === all ? due : `${due} to ${all}`}`,
        );
      }
    }
  }

  #accepted(): Submission[] {
    const known = new Set<string>();
    return this.#history.submissions.filter(({ executions }) => {
      const [execution] = executions;
      if (execution === undefined || known.has(execution)) return false;
      known.add(execution);
      return true;
    });
  }

  /** Commands whose end a session must have seen. */
  #expected(session: Session): Submission[] {
    if (session.isCut) return [];
    return this.#accepted().filter(
      ({ target, submittedOrder }) => submittedOrder > session.joinedOrder && (session.targets?.has(target) ?? true),
    );
  }

  // --- agreement --------------------------------------------------------------------------------------------------

  /** Who saw an execution as a whole saw its two streams interleaved in the same way. */
  #checkInterleaving(): void {
    const first = new Map<string, { text: string; client: string }>();
    for (const session of this.#history.sessions) {
      for (const seen of session.seen.values()) {
        for (const [execution, text] of interleavings(seen)) {
          const end = this.#ends.get(execution);
          const started = this.#starts.get(execution);
          if (end === undefined || started === undefined || started.ms <= session.joinedMs || session.isCut) continue;
          const other = first.get(execution);
          if (other === undefined) first.set(execution, { text, client: session.client });
          else if (other.text !== text) {
            this.#found(
              `${session.client} and ${other.client} saw the streams of ${execution} interleaved differently`,
            );
          }
        }
      }
    }
  }
}

/** By execution: how many lines of which stream follow each other. */
function interleavings(seen: readonly Seen[]): Map<string, string> {
  const runs = new Map<string, { stream: string; count: number }[]>();
  for (const one of seen) {
    if (one.kind !== 'lines') continue;
    const list = runs.get(one.execution) ?? [];
    runs.set(one.execution, list);
    const last = list.at(-1);
    const count = one.to - one.from + 1;
    if (last?.stream === one.stream) last.count += count;
    else list.push({ stream: one.stream, count });
  }
  return new Map(
    [...runs].map(([execution, list]) => [execution, list.map((run) => `${run.stream[3]}${run.count}`).join('')]),
  );
}

function describe(arrived: readonly Range[]): string {
  const joined: [number, number][] = [];
  for (const [from, to] of arrived) {
    const last = joined.at(-1);
    if (last !== undefined && last[1] === from - 1) last[1] = to;
    else joined.push([from, to]);
  }
  const shown = joined.slice(0, 8).map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`));
  return `${shown.join(' ')}${joined.length > 8 ? ` … (${joined.length} stretches)` : ''}` || 'none';
}
