/** Promise C1: a command is taken once, however often and wherever it is sent. */
import { expect, test } from 'vitest';
import { Installation } from '../support/installation.js';

const COMMANDS = 50;
const TARGETS = ['worker-1', 'worker-2', 'worker-3', 'worker-4', 'worker-5'];

test('the same id sent to two gateways at the same time, fifty times over, is one execution each', async () => {
  const it = await Installation.start();
  const clients = [
    await it.newClient('left', { gateway: it.gateway(0), targets: TARGETS }),
    await it.newClient('right', { gateway: it.gateway(1), targets: TARGETS }),
  ];
  const answers = await Promise.all(
    Array.from({ length: COMMANDS }, async (_, n) => {
      const target = TARGETS[n % TARGETS.length] ?? '';
      // Thrice, and the third is a repeat for sure.
      const both = await Promise.all(clients.map((client) => client.submitAs(`same-${n}`, target, 'write', 5)));
      return [...both, await clients[n % 2]?.submitAs(`same-${n}`, target, 'write', 5)];
    }),
  );
  for (const answer of answers) {
    expect(new Set(answer.map((accepted) => accepted?.execution)).size).toBe(1);
    expect(answer.filter((accepted) => accepted?.duplicate === false)).toHaveLength(1);
  }
  const report = await it.verdict('the same ids on two gateways');
  expect(report.executions).toBe(COMMANDS);
});

test('an id that was used for another command is refused, and nothing runs', async () => {
  const it = await Installation.start({ gateways: 1, runners: 1 });
  const client = await it.newClient('client', { targets: ['worker-1'] });
  await client.submitAs('once', 'worker-1', 'write', 1);
  await expect(client.submitAs('once', 'worker-1', 'write', 2)).rejects.toMatchObject({ code: 'id_reused' });
  const report = await it.verdict('an id used for two commands');
  expect(report.executions).toBe(1);
});
