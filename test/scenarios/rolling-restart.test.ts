/** Promise P1: a rolling restart of everything under load loses nothing. */
import { expect, test } from 'vitest';
import { Installation } from '../support/installation.js';
import { until } from '../support/until.js';

const TARGETS = ['worker-1', 'worker-2', 'worker-3'];

test('every gateway and every runner is replaced under load, and no client misses anything', async () => {
  const it = await Installation.start();
  const clients = [
    await it.newClient('client 1', { gateway: it.gateway(0), targets: TARGETS }),
    await it.newClient('client 2', { gateway: it.gateway(1), targets: '*' }),
  ];
  let olds = 1;
  let old = await it.oldClient('old 1', it.gateway(0));
  let isStopped = false;
  const load = TARGETS.map(async (target, index) => {
    const client = clients[index % clients.length];
    for (let n = 0; !isStopped; n += 1) await client?.submitUntilAccepted(target, 'write', 100, 10, 0.02);
  });
  const watched = () => clients.map((client) => client.session.lineCount('worker-1'));

  for (const generation of [it.runners, it.gateways]) {
    for (const program of [...generation]) {
      const before = watched();
      await until('lines', () => watched().every((count, index) => count > (before[index] ?? 0) + 100));
      if (generation === it.runners) await it.addRunner();
      else await it.addGateway();
      it.retire(program);
      // Old clients cannot resume: what they see in between is what their connections show.
      const isOlds = old.socket.isOpen && program.url === old.url;
      if (isOlds) old.session.cut();
      const ended = await program.stop();
      expect({ name: program.name, ...ended }).toEqual({ name: program.name, code: 0, signal: null });
      if (isOlds) {
        expect((await old.socket.closed).code).toBe(1012);
        old = await it.oldClient(`old ${(olds += 1)}`, it.gateway(0));
      }
    }
  }
  isStopped = true;
  await Promise.all(load);
  const report = await it.verdict('rolling restart of everything', { timeoutMs: 60_000 });
  expect(report.executions).toBeGreaterThan(10);
  for (const client of clients) {
    expect(client.messages.filter(({ type }) => type === 'migrate').length).toBe(client.connections - 1);
    expect(client.connections).toBeGreaterThan(1);
  }
  const outcomes = clients.flatMap((client) =>
    client.messages.filter(({ type }) => type === 'result').map(({ outcome }) => outcome as string),
  );
  expect(new Set(outcomes)).toEqual(new Set(['succeeded']));
});
