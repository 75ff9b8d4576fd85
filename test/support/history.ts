/** What a scenario's history consists of: what clients asked for, what they saw, and what scripts truly did. */

/** A script's own testimony, in the order in which it happened (see `fixtures/witness.sh`). */
export type JournalEvent =
  | { kind: 'start'; ms: number; execution: string; pid: number; commandId: string; fence: number; target: string }
  /** Counts of lines written. A script ended by SIGKILL leaves none. */
  | { kind: 'end'; ms: number; execution: string; stdout: number; stderr: number; exitCode: number }
  | { kind: 'child'; ms: number; execution: string; pid: number }
  | { kind: 'term'; ms: number; execution: string }
  /** `execution` started while the script of `other` still lived. */
  | { kind: 'overlap'; ms: number; execution: string; other: string };

/** One command as a client sent it, perhaps several times. Order is by the recorder's count, over all clients. */
export interface Submission {
  client: string;
  target: string;
  /** The idempotency id; also an argument of the script, which testifies it. */
  commandId: string;
  idempotent: boolean;
  submittedOrder: number;
  /** Of the first answer; undefined while there is none. */
  acceptedOrder?: number;
  /** Executions named in the answers, each once. */
  executions: string[];
  /** Codes of the errors that came instead. */
  refusals: string[];
}

/** Consecutive lines of one stream of one execution. With `offset`, that of the first; the others follow it. */
export interface SeenLines {
  kind: 'lines';
  execution: string;
  stream: 'stdout' | 'stderr';
  from: number;
  to: number;
  epoch?: string;
  offset?: number;
}
/** Anything else that stands in a target's log. */
export interface SeenEvent {
  kind: 'started' | 'error' | 'result';
  /** Unknown to old clients. */
  execution?: string;
  outcome?: string;
  exitCode?: number;
  epoch?: string;
  offset?: number;
}
export interface SeenGap {
  kind: 'gap';
  reason: string;
}
export type Seen = SeenLines | SeenEvent | SeenGap;

/**
 * What one client saw between two points in time. A client that resumes where it was (`since`) is one session however
 * often it reconnects; each connection of one that cannot is a session of its own.
 */
export interface Session {
  client: string;
  protocol: 'old' | 'v1';
  /** Executions that start later belong to the session from their first line on. */
  joinedMs: number;
  /** The same on the scale of {@link Submission.submittedOrder}: it sees the outcome of what was submitted later. */
  joinedOrder: number;
  /** It ended in the middle of things: the end of what was under way may be missing, nothing before it. */
  isCut: boolean;
  /** Undefined: everything. */
  targets?: ReadonlySet<string>;
  /** By target, in the order of arrival. */
  seen: ReadonlyMap<string, readonly Seen[]>;
}

export interface History {
  submissions: readonly Submission[];
  sessions: readonly Session[];
  journal: readonly JournalEvent[];
}

/** Reads the journal of `witness.sh`. Throws for a line that is none of its own. */
export function parseJournal(text: string): JournalEvent[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [kind, ms, execution, ...rest] = line.split('\t');
      const base = { ms: Number(ms), execution: execution ?? '' };
      const at = (index: number) => Number(rest[index]);
      switch (kind) {
        case 'START':
          return {
            ...base,
            kind: 'start',
            pid: at(0),
            commandId: rest[1] ?? '',
            fence: at(2),
            target: rest.slice(3).join('\t'),
          };
        case 'END':
          return { ...base, kind: 'end', stdout: at(0), stderr: at(1), exitCode: at(2) };
        case 'CHILD':
          return { ...base, kind: 'child', pid: at(0) };
        case 'TERM':
          return { ...base, kind: 'term' };
        case 'OVERLAP':
          return { ...base, kind: 'overlap', other: rest[0] ?? '' };
        default:
          throw new Error(`Expected a line of the witness's journal, got ${JSON.stringify(line)}.`);
      }
    });
}
