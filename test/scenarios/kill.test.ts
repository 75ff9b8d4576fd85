/** Promise C3: kill works from any gateway, and no descendant survives. Promise C4: leaving ends nothing. */
import { expect, test } from 'vitest';
import { Installation } from '../support/installation.js';
import { isRunning, processesOf } from '../support/processes.js';
import { until } from '../support/until.js';

test('a kill from another gateway reaches a script within a second, and nothing that it forked survives', async () => {
  const it = await Installation.start({ runnerFlags: ['--kill-grace', '1s'] });
  const owner = await it.newClient('owner', { gateway: it.gateway(0), targets: ['worker-1'] });
  const killer = await it.oldClient('killer', it.gateway(1), { keepsLines: true });
  const { execution, commandId } = await owner.submit('worker-1', 'fork');
  const processes = await until('all processes of the script', async () => {
    const pids = processesOf(await it.journal(), execution);
    return pids.length === 4 && owner.session.lineCount('worker-1') === 1 && pids;
  });
  expect(processes.every(isRunning)).toBe(true);

  const killMs = Date.now();
  killer.socket.send({ type: 'command', command: 'kill', target: 'worker-1' });
  const term = await until('SIGTERM to arrive', async () =>
    (await it.journal()).find((event) => event.kind === 'term' && event.execution === execution),
  );
  expect((term as { ms: number }).ms - killMs).toBeLessThan(1_000);
  const result = await killer.socket.next('the result', ({ type }) => type === 'result');
  expect(result).toMatchObject({ target: 'worker-1', exit_code: 137 });
  await until(
    () => `all to end; ${processes.filter(isRunning).join(' ')} live`,
    () => !processes.some(isRunning),
    5_000,
  );
  await owner.submit('worker-1', 'write', 3);
  await it.verdict('kill of a script that forks and ignores SIGTERM');
  expect(owner.session.outcomeOf(execution)).toBe('killed');
  expect(commandId).toBe('owner-1');
});

test('a script ends although nobody watches it any more', async () => {
  const it = await Installation.start({ runners: 1 });
  const watcher = await it.newClient('watcher', { gateway: it.gateway(1), targets: ['worker-1'] });
  const owner = await it.oldClient('owner', it.gateway(0));
  const commandId = owner.submit('worker-1', 'hold', 10, 0.01);
  await it.started(commandId);
  owner.leave();
  const seen = watcher.session.lineCount('worker-1');
  await until('more lines', () => watcher.session.lineCount('worker-1') > seen + 100);
  await it.release(commandId);
  await it.verdict('the client that sent the command leaves');
});
