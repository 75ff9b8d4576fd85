/** Output that is large: one line of 16 MiB, a million lines. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { tally } from '../support/history-checker.js';
import { Installation } from '../support/installation.js';
import { WORKSPACE } from '../support/programs.js';
import { until } from '../support/until.js';

const MIB = 1024 * 1024;
const FLOOD_LINES = 1_000_000;

test('a line of 16 MiB comes cut, with a mark, and what follows is not disturbed', async () => {
  const it = await Installation.start({ gateways: 1, runners: 1 });
  const client = await it.newClient('client', { targets: ['worker-1'] });
  const old = await it.oldClient('old', it.gateway(0), { keepsLines: true });
  const { execution } = await client.submit('worker-1', 'long', 16 * MIB);
  await until('its outcome', () => client.session.outcomeOf(execution), 30_000);
  const { data } = await old.socket.next('the line', ({ type }) => type === 'stdout');
  const line = data as string;
  expect(line.startsWith('x'.repeat(60 * 1024))).toBe(true);
  expect(line.length).toBeLessThan(MIB);
  expect(line.replace(/^x+/, '')).toMatch(/\S/);
  expect(old.socket.messages.filter(({ type }) => type === 'stdout')).toHaveLength(1);
  await client.submit('worker-1', 'write', 10);
  const result = () => old.socket.messages.filter(({ type }) => type === 'result');
  await until('both results', () => result().length === 2);
  await until('its lines', () => client.session.lineCount('worker-1') === 10);
  expect(result().map(({ exit_code }) => exit_code as number)).toEqual([0, 0]);
});

test('a line of 16 MiB comes whole if runners are told to allow it', async () => {
  const it = await Installation.start({ gateways: 1, runners: 1, runnerFlags: ['--max-line-bytes', '16MiB'] });
  const client = await it.newClient('client', { targets: ['worker-1'] });
  const old = await it.oldClient('old', it.gateway(0), { keepsLines: true });
  await client.submit('worker-1', 'long', 16 * MIB);
  await old.socket.next('the result', ({ type }) => type === 'result', 30_000);
  const [line, ...others] = old.socket.messages.filter(({ type }) => type === 'stdout');
  expect(others).toEqual([]);
  expect(line?.['data'] === 'x'.repeat(16 * MIB)).toBe(true);
});

test('a million lines reach clients of both protocols, each line once and in order', async () => {
  const it = await Installation.start({
    script: join(WORKSPACE, 'scripts/mock-worker.sh'),
    runnerFlags: ['--history-bytes', '256MiB'],
  });
  /** Stretches of numbers, as they arrived. */
  const arrivals = () => {
    const ranges: [number, number][] = [];
    return {
      ranges,
      take(text: string) {
        const number = Number(/^flood (\d+) of 1000000$/.exec(text)?.[1]);
        const last = ranges.at(-1);
        if (last !== undefined && last[1] === number - 1) last[1] = number;
        else ranges.push([number, number]);
      },
    };
  };
  const [batched, plain, late] = [arrivals(), arrivals(), arrivals()];
  const client = await it.newClient('batched', {
    targets: ['worker-1'],
    onMessage: ({ type, lines }) => {
      if (type === 'lines') for (const line of lines as string[]) batched.take(line);
    },
  });
  const subscribed = await client.next('its subscription', ({ type }) => type === 'subscribed');
  const old = await it.oldClient('plain', it.gateway(1), {
    onMessage: ({ type, data }) => {
      if (type === 'stdout') plain.take(data as string);
    },
  });
  // The mock worker has no use for an id, so this goes past the recorder.
  const startMs = Date.now();
  client.socket.send({
    type: 'command',
    command: 'flood',
    target: 'worker-1',
    args: [String(FLOOD_LINES)],
    id: 'flood',
  });
  await client.next('the result', ({ type }) => type === 'result', 60_000);
  const tookMs = Date.now() - startMs;
  const resumed = await it.newClient('late', {
    gateway: it.gateway(1),
    targets: ['worker-1'],
    since: { epoch: subscribed['epoch'] as string, offset: subscribed['offset'] as number },
    onMessage: ({ type, lines }) => {
      if (type === 'lines') for (const line of lines as string[]) late.take(line);
    },
  });
  await old.socket.next('the result', ({ type }) => type === 'result', 60_000);
  await resumed.next('the result', ({ type }) => type === 'result', 60_000);

  const tallies = [batched, plain, late].map(({ ranges }) => tally(ranges, { from: 1, to: FLOOD_LINES }));
  const sum = (what: 'lost' | 'doubled' | 'reordered') => tallies.reduce((total, one) => total + one[what], 0);
  process.stdout.write(
    `history: flood of a million lines: ${3 * FLOOD_LINES} lines to 3 clients, ${sum('lost')} lost, ${sum('doubled')} doubled, ` +
      `${sum('reordered')} reordered, 0 double executions\nflood: ${Math.round((FLOOD_LINES / tookMs) * 1000)} lines/s to the first client\n`,
  );
  expect(tallies).toEqual([batched, plain, late].map(() => ({ lost: 0, doubled: 0, reordered: 0 })));
  expect([batched, plain, late].map(({ ranges }) => ranges)).toEqual(
    [batched, plain, late].map(() => [[1, FLOOD_LINES]]),
  );
  expect([...client.messages, ...resumed.messages].filter(({ type }) => type === 'gap')).toEqual([]);
});
