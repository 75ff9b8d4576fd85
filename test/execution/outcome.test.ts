import { describe, expect, it } from 'vitest';
import { decideOutcome } from '../../libs/execution/src/outcome.js';

describe('decideOutcome', () => {
  it('takes the exit code of a script that ended by itself', () => {
    expect(decideOutcome({ kind: 'exited', exit: { code: 0 } }, { code: 0 })).toEqual({
      outcome: 'succeeded',
      exitCode: 0,
    });
    expect(decideOutcome({ kind: 'exited', exit: { code: 3 } }, { code: 3 })).toEqual({
      outcome: 'failed',
      exitCode: 3,
    });
    expect(decideOutcome({ kind: 'exited', exit: { code: 139 } }, { code: 139 })).toEqual({
      ...{ outcome: 'failed', exitCode: 139, signal: 'SIGSEGV' },
    });
    expect(decideOutcome({ kind: 'exited', exit: { code: 255 } }, { code: 255 })).toEqual({
      outcome: 'failed',
      exitCode: 255,
    });
  });

  it('calls a killed script killed, however it left', () => {
    const cause = { kind: 'kill-requested', by: 'ann' } as const;
    const byTerm = { outcome: 'killed', exitCode: 143, signal: 'SIGTERM', reason: 'killed on request of ann' };
    expect(decideOutcome(cause, { code: 143 })).toEqual(byTerm);
    expect(decideOutcome(cause, { code: 0 })).toEqual(byTerm);
    expect(decideOutcome(cause, undefined)).toEqual(byTerm);
    expect(decideOutcome(cause, { code: 137 })).toMatchObject({ exitCode: 137, signal: 'SIGKILL' });
  });

  it('gives a timeout the code 124 and an error that says how long it was', () => {
    expect(decideOutcome({ kind: 'timed-out', timeoutMs: 1500 }, { code: 143 })).toMatchObject({
      ...{ outcome: 'timed-out', exitCode: 124 },
      error: { code: 'timed_out', text: expect.stringContaining('1.5 s') },
    });
  });

  it('rejects what cannot be started', () => {
    expect(decideOutcome({ kind: 'cannot-execute', code: 127, problem: 'no such' }, undefined)).toMatchObject({
      ...{ outcome: 'rejected', exitCode: 127, error: { code: 'cannot_execute', text: 'no such' } },
    });
    expect(decideOutcome({ kind: 'not-allowed', command: 'rm', allowed: ['start', 'stop'] }, undefined)).toMatchObject({
      ...{ outcome: 'rejected', exitCode: -1 },
      error: { code: 'command_not_allowed', text: expect.stringContaining('start, stop') },
    });
    const unreachable = { kind: 'agent-rejected', code: 'node_not_connected', reason: 'r', problem: 'p' } as const;
    expect(decideOutcome(unreachable, undefined)).toEqual({
      ...{ outcome: 'rejected', exitCode: -1, reason: 'r', error: { code: 'node_not_connected', text: 'p' } },
    });
    expect(decideOutcome({ ...unreachable, code: 'agent_refused' }, undefined)).toMatchObject({ exitCode: 126 });
    expect(decideOutcome({ kind: 'no-script' }, undefined)).toMatchObject({
      ...{ outcome: 'rejected', exitCode: 126 },
      error: { code: 'no_script', text: expect.stringContaining('--script FILE') },
    });
  });

  it('calls lost what ran by an agent that lost touch, and says how that showed', () => {
    expect(decideOutcome({ kind: 'agent-lost', reason: 'not heard of for 30 s' }, undefined)).toEqual({
      ...{ outcome: 'lost', exitCode: -1, reason: 'not heard of for 30 s' },
      error: { code: 'agent_lost', text: expect.stringContaining('not heard of for 30 s') },
    });
  });
});
