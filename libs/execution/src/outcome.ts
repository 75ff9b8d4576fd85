/**
 * How an execution ended, decided once: whatever happened first is the cause, and what follows from it (the exit of a
 * script that was killed) is a detail. Pure.
 */
import { constants } from 'node:os';
import type { ErrorCode, Outcome } from '@carrierarr/protocol';

/** How a script or other program ended. */
export interface ProgramExit {
  /** 0 to 255; 128 + n if signal n ended it. */
  code: number;
}

export type EndCause =
  | { kind: 'exited'; exit: ProgramExit }
  | { kind: 'kill-requested'; by: string | undefined }
  | { kind: 'timed-out'; timeoutMs: number }
  | { kind: 'shut-down' }
  /** The runner froze (or was stopped) so long that the watchdog ended the script. */
  | { kind: 'stalled' }
  /** Redis was away so long that others may soon hold this execution for lost. */
  | { kind: 'out-of-touch'; silentMs: number }
  /** Another has declared this execution lost. */
  | { kind: 'fenced' }
  | { kind: 'not-allowed'; command: string; allowed: readonly string[] }
  | { kind: 'cannot-execute'; code: 126 | 127; problem: string }
  /** It is for the control script, and the runner has none. */
  | { kind: 'no-script' }
  /** No agent began it. `problem` is for the client. */
  | { kind: 'agent-rejected'; code: ErrorCode; reason: string; problem: string }
  /** Nobody knows what became of it on its agent; `reason` says why. */
  | { kind: 'agent-lost'; reason: string };

export interface Verdict {
  outcome: Outcome;
  /** As in the protocol's result message. */
  exitCode: number;
  signal?: string;
  reason?: string;
  error?: { code: ErrorCode; text: string };
}

/** GNU timeout's code. */
const TIMED_OUT_CODE = 124;
/** A shell's code for what is there and cannot be run. */
const CANNOT_EXECUTE_CODE = 126;
const SIGNAL_BASE = 128;
const SIGNAL_NAMES = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]));

/** The signal that an exit code of 128 + n stands for. Shells, and so our watchdog, tell a death by signal no other way. */
export function signalOf(code: number): string | undefined {
  return code > SIGNAL_BASE ? SIGNAL_NAMES.get(code - SIGNAL_BASE) : undefined;
}

/**
 * The verdict for a cause. `exit`: how the script's process ended, if it ran. Nothing is reported for `fenced`: another
 * has written the outcome.
 */
export function decideOutcome(cause: Exclude<EndCause, { kind: 'fenced' }>, exit: ProgramExit | undefined): Verdict {
  switch (cause.kind) {
    case 'exited': {
      const { code } = cause.exit;
      if (code === 0) return { outcome: 'succeeded', exitCode: 0 };
      const signal = signalOf(code);
      return { outcome: 'failed', exitCode: code, ...(signal !== undefined && { signal }) };
    }
    case 'timed-out': {
      const after = `${cause.timeoutMs / 1000} s`;
      return {
        ...{ outcome: 'timed-out', exitCode: TIMED_OUT_CODE, ...killSignal(exit) },
        reason: `ran longer than its timeout of ${after}`,
        error: {
          code: 'timed_out',
          text: `The command was still running after ${after} and was ended. Give it a longer timeout, or find out why it hangs.`,
        },
      };
    }
    case 'kill-requested':
      return killed(exit, cause.by === undefined ? 'killed on request' : `killed on request of ${cause.by}`);
    case 'shut-down':
      return killed(exit, 'runner shut down');
    case 'stalled':
      return killed(exit, 'the runner stalled, so the watchdog ended the script');
    case 'out-of-touch':
      return killed(exit, `the runner could not reach Redis for ${Math.round(cause.silentMs / 1000)} s`);
    case 'not-allowed':
      return rejected(-1, 'command not allowed', {
        code: 'command_not_allowed',
        text: `The command "${cause.command}" is not allowed here. Allowed: ${cause.allowed.join(', ')}.`,
      });
    case 'no-script':
      return rejected(CANNOT_EXECUTE_CODE, 'no control script', {
        code: 'no_script',
        text: 'The runner that got the command has no control script. Start all runners with --script FILE.',
      });
    case 'agent-rejected': {
      const exitCode = cause.code === 'agent_refused' ? CANNOT_EXECUTE_CODE : -1;
      return rejected(exitCode, cause.reason, { code: cause.code, text: cause.problem });
    }
    case 'agent-lost':
      return {
        ...{ outcome: 'lost', exitCode: -1, reason: cause.reason },
        error: {
          code: 'agent_lost',
          text: `Nobody knows how the command ended on its agent: ${cause.reason}. How far it got is unknown.`,
        },
      };
    case 'cannot-execute':
      return rejected(cause.code, 'the script could not be started', { code: 'cannot_execute', text: cause.problem });
  }
}

function killed(exit: ProgramExit | undefined, reason: string): Verdict {
  const { signal } = killSignal(exit);
  return { outcome: 'killed', exitCode: SIGNAL_BASE + constants.signals[signal], signal, reason };
}

/** The signal that ended a script we were ending. One that caught SIGTERM and left by itself was ended by SIGTERM. */
function killSignal(exit: ProgramExit | undefined): { signal: 'SIGTERM' | 'SIGKILL' } {
  return { signal: exit?.code === SIGNAL_BASE + constants.signals.SIGKILL ? 'SIGKILL' : 'SIGTERM' };
}

function rejected(exitCode: number, reason: string, error: NonNullable<Verdict['error']>): Verdict {
  return { outcome: 'rejected', exitCode, reason, error };
}
