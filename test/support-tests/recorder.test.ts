import { expect, test } from 'vitest';
import type { JournalEvent } from '../support/history.js';
import { Recorder } from '../support/recorder.js';

const started = (execution: string, commandId: string): JournalEvent => ({
  ...{ kind: 'start', ms: 1, execution, pid: 1, commandId, fence: 1, target: 'w' },
});
const ended = (execution: string, stdout: number, stderr: number): JournalEvent => ({
  ...{ kind: 'end', ms: 2, execution, stdout, stderr, exitCode: 0 },
});

/** An old client that came while `hold` ran, before `write` was submitted. */
function lateClient() {
  const recorder = new Recorder();
  recorder.accepted(recorder.submitted('early', { target: 'w', commandId: 'hold' }), 'x1');
  const session = recorder.session('old', 'old');
  session.joined();
  recorder.accepted(recorder.submitted('early', { target: 'w', commandId: 'write' }), 'x2');
  const journal = [started('x1', 'hold'), ended('x1', 3, 0), started('x2', 'write'), ended('x2', 2, 1)];
  return { recorder, session, pending: () => recorder.pending(journal) };
}

test('an old client is waited for until it has seen the last line and then the result of what was submitted after it came', () => {
  const { session, pending } = lateClient();
  expect(pending()).toContain('0 of 1 results');
  session.line('w', 'stdout', '#3 o x1');
  // Of the command before: as many results as are due, and yet not all.
  session.event('w', 'result', { exitCode: 0 });
  expect(pending()).toContain('stdout of x2 up to line 0 of 2');
  session.line('w', 'stdout', '#1 o x2');
  session.line('w', 'stdout', '#2 o x2');
  expect(pending()).toContain('stderr of x2 up to line 0 of 1');
  session.line('w', 'stderr', '#1 e x2');
  expect(pending()).toContain('not seen the result');
  session.event('w', 'result', { exitCode: 0 });
  expect(pending()).toBeUndefined();
});

test('a line that is missing in the middle is not waited for: that is for the verdict', () => {
  const { session, pending } = lateClient();
  session.line('w', 'stdout', '#2 o x2');
  session.line('w', 'stderr', '#1 e x2');
  session.event('w', 'result', { exitCode: 0 });
  expect(pending()).toBeUndefined();
});

test('an old client that was cut, and one that came later, are not waited for', () => {
  const { recorder, session, pending } = lateClient();
  recorder.session('older', 'old').joined();
  session.cut();
  expect(pending()).toBeUndefined();
});
