/** Promises O1 and O5: what cannot be delivered is said, and a subscription that went quiet is noticed. */
import { expect, onTestFinished, test } from 'vitest';
import { Installation } from '../support/installation.js';
import { startSilentProxy } from '../support/silent-proxy.js';
import { until } from '../support/until.js';

/** A dead subscription is found within this. */
const NOTICED_WITHIN_MS = 5_000;

test('a Redis subscription that goes silent is found within 5 s, shows in readiness, and costs no line', async () => {
  const it = await Installation.start({ gateways: 1, runners: 1 });
  const proxy = await startSilentProxy(it.redis.port);
  onTestFinished(() => proxy.stop());
  const behind = await it.addGateway({ redisUrl: proxy.url });
  const watcher = await it.newClient('watcher', { gateway: behind, targets: ['worker-1'] });
  const wide = await it.newClient('wide', { gateway: behind, targets: '*' });
  const other = await it.newClient('other', { gateway: it.gateway(0), targets: ['worker-1'] });
  const { commandId } = await other.submit('worker-1', 'hold', 10, 0.02);
  await until('lines', () => watcher.session.lineCount('worker-1') > 50 && wide.session.lineCount('worker-1') > 50);

  expect(proxy.silenceSubscribers()).toBeGreaterThan(0);
  const silentMs = Date.now();
  await until(
    'readiness to show it',
    async () => (await fetch(`${behind.url}/ready`)).status === 503,
    NOTICED_WITHIN_MS + 1_000,
  );
  expect(Date.now() - silentMs).toBeLessThan(NOTICED_WITHIN_MS);
  await until('it to be ready again', async () => (await fetch(`${behind.url}/ready`)).ok);
  const seen = watcher.session.lineCount('worker-1');
  await until('more lines', () => watcher.session.lineCount('worker-1') > seen + 100);
  await it.release(commandId);
  await it.verdict('a silent Redis subscription');
  expect([watcher.connections, wide.connections]).toEqual([1, 1]);
});

test('lines that the history has dropped come as one gap that names them, to who asks for them', async () => {
  const bounds = ['--history-bytes', '64KiB', '--history-entries', '100'];
  const it = await Installation.start({ gateways: 1, runners: 1, runnerFlags: bounds });
  const early = await it.newClient('early', { targets: ['worker-1'] });
  const start = await early.next('its subscription', ({ type }) => type === 'subscribed');
  for (let n = 0; n < 4; n += 1) await early.submit('worker-1', 'write', 10_000, 500, 0.001);
  await it.verdict('a history that is trimmed meanwhile');
  const last = early.positions.get('worker-1');

  /** Stretches of offsets in the order in which they came. */
  const came: { what: 'gap' | 'log'; from: number; to: number }[] = [];
  // The gateway they came through still has them in memory; a new one has the log alone.
  const fresh = await it.addGateway();
  const late = await it.newClient('late', {
    gateway: fresh,
    targets: ['worker-1'],
    since: { epoch: start['epoch'] as string, offset: start['offset'] as number },
    onMessage: ({ type, offset, lines, from, to }) => {
      if (type === 'gap') came.push({ what: 'gap', from: from as number, to: to as number });
      if (offset === undefined || type === 'subscribed') return;
      const end = (offset as number) + ((lines as string[] | undefined)?.length ?? 1) - 1;
      const before = came.at(-1);
      if (before?.what === 'log' && before.to === (offset as number) - 1) before.to = end;
      else came.push({ what: 'log', from: offset as number, to: end });
    },
  });
  await until('the end of the log', () => late.positions.get('worker-1')?.offset === last?.offset);
  expect(came).toHaveLength(2);
  const [gap, rest] = came;
  expect(gap).toEqual({ what: 'gap', from: (start['offset'] as number) + 1, to: (rest?.from ?? 0) - 1 });
  expect(rest).toMatchObject({ what: 'log', to: last?.offset });
  // A hundred entries less a segment (a 32nd): how many lines each holds is up to how busy the machine is.
  expect((rest?.to ?? 0) - (rest?.from ?? 0)).toBeGreaterThan(95);
  const metrics = await (await fetch(`${fresh.url}/metrics`)).text();
  expect(metrics).toMatch(/gap[a-z_]*(\{[^}]*\})? [1-9]/);
});
