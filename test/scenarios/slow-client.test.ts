/** Promise O3: who does not read is neither kicked nor starved, and costs the others nothing. */
import { expect, test } from 'vitest';
import { Installation } from '../support/installation.js';
import { residentBytes } from '../support/processes.js';
import { until } from '../support/until.js';

/** How long clients do not read. The promise is about 30 s; set the variable to see that too. */
const STALL_S = Number(process.env['SCENARIO_STALL_S'] ?? 8);
const LINES_PER_S = 10_000;
const MIB = 1024 * 1024;

test('clients that stop reading at 10,000 lines/s get every line later, and the others do not notice', async () => {
  const it = await Installation.start({ gateways: 1, runners: 1, runnerFlags: ['--history-bytes', '256MiB'] });
  const latenciesMs: number[] = [];
  const healthy = await it.newClient('healthy', {
    targets: ['worker-1'],
    onMessage: ({ type, timestamp }) => {
      if (type === 'lines') latenciesMs.push(Date.now() - Date.parse(timestamp as string));
    },
  });
  const healthyOld = await it.oldClient('healthy old');
  const stalled = await it.newClient('stalled', { targets: ['worker-1'] });
  const stalledPlain = await it.newClient('stalled plain', { targets: ['worker-1'], batch: false });
  const stalledOld = await it.oldClient('stalled old');

  const { commandId } = await healthy.submit('worker-1', 'hold', LINES_PER_S / 40, 0.018);
  await until('the stream to run', () => healthy.session.lineCount('worker-1') > LINES_PER_S / 2);
  const before = residentBytes(it.gateway(0).pid);
  const sleepers = [stalled.socket, stalledPlain.socket, stalledOld.socket];
  for (const socket of sleepers) socket.pause();
  const seen = healthy.session.lineCount('worker-1');
  latenciesMs.length = 0;
  await until(
    () => `${STALL_S} s worth of lines; there are ${healthy.session.lineCount('worker-1') - seen}`,
    () => healthy.session.lineCount('worker-1') - seen >= STALL_S * LINES_PER_S,
    STALL_S * 4_000,
  );
  const grown = (residentBytes(it.gateway(0).pid) ?? 0) - (before ?? 0);
  expect(stalled.session.lineCount('worker-1')).toBeLessThan(healthy.session.lineCount('worker-1') / 2);

  // How late lines come to who reads: nothing that a person would notice.
  const worst = latenciesMs.toSorted((a, b) => a - b).at(Math.floor(latenciesMs.length * 0.99)) ?? 0;
  process.stdout.write(`slow clients: healthy p99 ${worst} ms, gateway memory +${(grown / MIB).toFixed(1)} MiB\n`);
  expect(worst).toBeLessThan(1_000);
  // Three clients at most 2 MiB each; the rest is the ring of recent output (4 MiB a target) and the heap's own breathing.
  if (before !== undefined) expect(grown).toBeLessThan(64 * MIB);

  for (const socket of sleepers) socket.resume();
  await it.release(commandId);
  await it.verdict(`clients that do not read for ${STALL_S} s`, { timeoutMs: 60_000 });
  expect([healthy.connections, stalled.connections, stalledPlain.connections]).toEqual([1, 1, 1]);
  expect([healthyOld.socket.isOpen, stalledOld.socket.isOpen]).toEqual([true, true]);
});
