/** The main path: commands in at any gateway, output out at every gateway, for clients that come late or move. */
import { expect, test } from 'vitest';
import { Installation } from '../support/installation.js';
import { until } from '../support/until.js';

const TARGETS = ['worker-1', 'worker-2', 'gpu 3', 'größe-4'];

test('two gateways and two runners bring every line to every client, whichever gateway each is on', async () => {
  const it = await Installation.start();
  const [first, second] = [it.gateway(0), it.gateway(1)];
  const old = [await it.oldClient('old-1', first), await it.oldClient('old-2', second)];
  const modern = await it.newClient('new-1', { gateway: first, targets: TARGETS });
  const line = await it.newClient('new-2', { gateway: second, targets: TARGETS, batch: false });
  const wide = await it.newClient('wide', { gateway: second, targets: '*' });

  for (let round = 0; round < 5; round += 1) {
    for (const target of TARGETS) {
      old[round % 2]?.submit(target, 'write', 40);
      await modern.submit(target, 'write', 100, 10, 0.005);
      await line.submit(target, 'exit', round);
      await wide.submit(target, 'write', 333);
    }
  }
  const report = await it.verdict('two gateways, two runners');
  expect(report.executions).toBe(5 * TARGETS.length * 4);
  expect(report.lines).toBe(5 * 5 * TARGETS.length * (40 + 100 + 1 + 333));
  const outcomes = modern.messages.filter(({ type }) => type === 'result').map(({ outcome }) => outcome as string);
  expect(outcomes.filter((outcome) => outcome === 'failed')).toHaveLength(4 * TARGETS.length);
  expect(
    new Set(modern.messages.filter(({ type }) => type === 'started').map(({ runner }) => runner as string)).size,
  ).toBe(2);
});

test('a client that joins late gets the last lines it asked for, or all from a point on, and then what follows', async () => {
  const it = await Installation.start();
  const early = await it.newClient('early', { targets: ['worker-1'] });
  const { offset, epoch } = (await early.next('its subscription', ({ type }) => type === 'subscribed')) as never as {
    offset: number;
    epoch: string;
  };
  const { commandId } = await early.submit('worker-1', 'hold', 20, 0.01);
  await until('500 lines', () => early.session.lineCount('worker-1') >= 500);

  const tail = await it.newClient('tail', { gateway: it.gateway(1), targets: ['worker-1'], tail: 100 });
  await until('the older lines', () => tail.session.lineCount('worker-1') >= 100);
  const all = await it.newClient('since', { gateway: it.gateway(1), targets: ['worker-1'], since: { epoch, offset } });
  // What it is sent is all there is, so it counts as having been there from the start.
  all.session.joinedMs = 0;
  all.session.joinedOrder = 0;
  const old = await it.oldClient('old', it.gateway(1));
  await it.release(commandId);
  await early.submit('worker-1', 'write', 50);
  await it.verdict('late join');
  expect(all.session.lineCount('worker-1')).toBe(early.session.lineCount('worker-1'));
  expect(tail.session.lineCount('worker-1')).toBeLessThan(early.session.lineCount('worker-1'));
  expect(old.session.lineCount('worker-1')).toBeGreaterThanOrEqual(50);
});

test('a client that moves to another gateway in the middle of the stream misses and doubles nothing', async () => {
  const it = await Installation.start();
  const [first, second] = [it.gateway(0), it.gateway(1)];
  const mover = await it.newClient('mover', { gateway: first, targets: ['worker-1', 'worker-2'] });
  const wide = await it.newClient('wide mover', { gateway: first, targets: '*' });
  const still = await it.newClient('still', { gateway: first, targets: ['worker-1', 'worker-2'] });
  const held = [await still.submit('worker-1', 'hold', 30, 0.01), await still.submit('worker-2', 'hold', 7, 0.005)];
  for (let move = 1; move <= 8; move += 1) {
    const seen = still.session.lineCount('worker-1');
    await until('more lines', () => still.session.lineCount('worker-1') > seen + 100);
    const url = move % 2 === 1 ? second.url : first.url;
    await Promise.all([mover.moveTo(url), wide.moveTo(url)]);
  }
  for (const { commandId } of held) await it.release(commandId);
  await it.verdict('move to another gateway');
  expect(mover.connections).toBe(9);
});
