import { type Step, Watch } from '@carrierarr/cli';
import type { Execution, ServerMessage } from '@carrierarr/protocol';
import { describe, expect, it } from 'vitest';

const timestamp = '2025-01-01T00:00:00.000Z';
const before = { epoch: 'e1', offset: 10 };
const place = { timestamp, target: 'w1', epoch: 'e1' };

function lines(execution: string, texts: string[], offset = 11): ServerMessage {
  return { ...place, type: 'lines', offset, execution_id: execution, stream: 'stdout', lines: texts };
}
function result(
  execution: string,
  exitCode: number,
  outcome: 'succeeded' | 'failed' | 'killed' | 'timed-out' | 'lost' | 'rejected',
): ServerMessage {
  return { ...place, type: 'result', offset: 12, execution_id: execution, exit_code: exitCode, outcome };
}
function accepted(duplicate = false): ServerMessage {
  return { type: 'accepted', timestamp, target: 'w1', id: 'mine', execution_id: 'x1', position: 0, duplicate };
}
function play(watch: Watch, messages: ServerMessage[]): Step[] {
  return messages.flatMap((message) => watch.receive(message));
}
const record = { id: 'x1', state: 'ended', outcome: 'failed', exit_code: 7, epoch: 'e1', first_offset: 3 } as Execution;

describe('a command that is watched', () => {
  it('shows its own lines only, also those that overtook the answer', () => {
    const steps = play(new Watch('mine', before), [
      lines('x0', ['other']),
      lines('x1', ['a']),
      accepted(),
      lines('x0', ['other']),
      lines('x1', ['b']),
    ]);
    const shown = steps.flatMap((step) =>
      step.do === 'show' && step.message.type === 'lines' ? step.message.lines : [],
    );
    expect(shown).toEqual(['a', 'b']);
  });

  it('ends with the exit code of the script, once', () => {
    const watch = new Watch('mine', before);
    expect(
      play(watch, [accepted(), result('x1', 3, 'failed'), result('x1', 3, 'failed')]).filter(
        (step) => step.do === 'finish',
      ),
    ).toEqual([{ do: 'finish', exitCode: 3 }]);
  });

  it.each([
    ['killed', 137, 137],
    ['timed-out', 124, 124],
    ['lost', -1, 125],
    ['killed', -1, 125],
  ] as const)('that is %s with code %i exits with %i and a sentence', (outcome, code, exitCode) => {
    const steps = play(new Watch('mine', before), [accepted(), result('x1', code, outcome)]);
    expect(steps.at(-1)).toMatchObject({ do: 'finish', exitCode, text: expect.any(String) });
  });

  it('exits with 126 when the script could not be started', () => {
    const error: ServerMessage = {
      ...place,
      type: 'error',
      offset: 11,
      execution_id: 'x1',
      code: 'cannot_execute',
      error: 'no',
    };
    expect(play(new Watch('mine', before), [accepted(), error, result('x1', -1, 'rejected')]).at(-1)).toMatchObject({
      exitCode: 126,
    });
  });

  it('reads the log again when more came before the answer than it holds', () => {
    const flood = Array.from({ length: 6000 }, (_, at) => lines('x1', ['a'], 11 + at));
    expect(play(new Watch('mine', before), [...flood, accepted()]).at(-1)).toEqual({ do: 'rewind', point: before });
  });

  it('asks how it ended when a gap may have swallowed the result', () => {
    const watch = new Watch('mine', before);
    const gap: ServerMessage = {
      type: 'gap',
      timestamp,
      target: 'w1',
      epoch: 'e1',
      from: 11,
      to: 99,
      reason: 'trimmed',
    };
    expect(play(watch, [accepted(), gap]).at(-1)).toEqual({ do: 'look-up', execution: 'x1' });
    expect(watch.recorded(record)).toEqual([{ do: 'finish', exitCode: 7 }]);
  });

  it('goes elsewhere when the gateway shuts down, and reports any other refusal', () => {
    const refusal = (code: string): ServerMessage => ({ type: 'error', timestamp, error: 'no', code, id: 'mine' });
    expect(new Watch('mine', before).receive(refusal('draining'))).toEqual([{ do: 'reconnect' }]);
    expect(new Watch('mine', before).receive(refusal('queue_full'))).toEqual([
      { do: 'refused', code: 'queue_full', text: 'no' },
    ]);
    expect(new Watch('other', before).receive(refusal('queue_full'))).toEqual([]);
  });

  it('whose id was used before is shown from its own beginning', () => {
    expect(new Watch('mine', before).duplicate(record)).toEqual([{ do: 'rewind', point: { epoch: 'e1', offset: 2 } }]);
    const watch = new Watch('mine', before);
    expect(watch.duplicate({ ...record, state: 'running', first_offset: 11 })).toEqual([]);
  });
});
