import { type Execution, SYSTEM_SUBJECTS } from '@carrierarr/protocol';
import { recordedView, viewOfRecord } from '@carrierarr/reconcile';
import { describe, expect, it } from 'vitest';
import { given, iso, NOW_MS } from './builders.js';

function execution(over: Partial<Execution>): Execution {
  return {
    ...{ id: 'e1', target: 'w1', command: 'start', args: [], state: 'queued', subject: SYSTEM_SUBJECTS.reconciler },
    ...{ address: '', gateway: 'monitor', idempotent: false, accepted_at: iso(NOW_MS), attempt: 0 },
    ...over,
  };
}

describe('the end of a command', () => {
  it('is what the status says of it', () => {
    const command = given({ execution: 'e1', outcome: 'failed', exitCode: 3, endedAt: iso(NOW_MS) });
    expect(recordedView(command)).toEqual({
      ...{ state: 'ended', id: 'e1', outcome: 'failed', exitCode: 3, endedAtMs: NOW_MS },
    });
  });

  it('is not known by a status that has none, submitted or not', () => {
    expect(recordedView(given())).toBeUndefined();
    expect(recordedView(given({ execution: 'e1' }))).toBeUndefined();
  });

  it('is what its record says', () => {
    const record = execution({ state: 'ended', outcome: 'succeeded', exit_code: 0, ended_at: iso(NOW_MS) });
    expect(viewOfRecord('e1', record, 1)).toEqual({
      ...{ state: 'ended', id: 'e1', outcome: 'succeeded', exitCode: 0, endedAtMs: NOW_MS },
    });
  });

  it('is lost, at the time that the caller knows, when its record is gone', () => {
    const lost = { state: 'ended', id: 'e1', outcome: 'lost', exitCode: -1, endedAtMs: NOW_MS };
    expect(viewOfRecord('e1', undefined, NOW_MS)).toEqual(lost);
    expect(viewOfRecord('e1', execution({ state: 'ended' }), NOW_MS)).toEqual(lost);
  });
});

it('a command that waits or runs is that, under the id by which it was found', () => {
  expect(viewOfRecord('e1', execution({ state: 'queued' }), NOW_MS)).toEqual({ state: 'queued', id: 'e1' });
  expect(viewOfRecord('e1', execution({ state: 'running' }), NOW_MS)).toEqual({ state: 'running', id: 'e1' });
});
