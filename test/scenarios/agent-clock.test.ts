/**
 * Agents whose clocks are wrong by more than a day, and one whose clock is set while it works: how alive a node is, when its lines were
 * written and when a command has run for too long is told by the control plane's clock, or by one that nobody sets.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { type Program, startProgram } from '../support/programs.js';
import { until } from '../support/until.js';
import { type Message, Socket, wsUrl } from '../support/ws-clients.js';

const HOUR_MS = 3_600_000;
const STALE_MS = 4_000;
const DEAD_MS = 8_000;
/** By what clocks are wrong at first, by node, ms. */
const OFF_MS = { ahead: 26 * HOUR_MS, behind: -26 * HOUR_MS };
type Node = keyof typeof OFF_MS;

interface NodeRow {
  id: string;
  liveness: string;
  last_seen: string;
  stream_active: boolean;
}

/** What Node runs first: its `Date` is off by so much, and from SIGUSR2 on by as much the other way. */
const wrongClock = (offMs: number) => `
  let offMs = ${offMs};
  const Right = Date;
  globalThis.Date = class extends Right {
    constructor(...args) { if (args.length === 0) super(Right.now() + offMs); else super(...args); }
    static now() { return Right.now() + offMs; }
  };
  process.on('SIGUSR2', () => { offMs = -offMs; });
`;

async function start(): Promise<{ up: Program; agents: Record<Node, Program> }> {
  const folder = await mkdtemp(join(tmpdir(), 'carrierarr-agent-clock-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 }));
  const limits = ['-stale-timeout', `${STALE_MS}ms`, '-dead-threshold', `${DEAD_MS}ms`];
  const intervals = ['--agent-status-interval', '1s', '--agent-heartbeat-interval', '1s'];
  const up = startProgram({
    name: 'up',
    listens: /http:\/\/127\.0\.0\.1:(\d+)\D/,
    args: [
      ...['up', '--addr', '127.0.0.1:0', '--grpc-addr', '127.0.0.1:0', '--state-dir', join(folder, 'up')],
      ...[...limits, ...intervals],
    ],
  });
  onTestFinished(() => up.stop().then(() => undefined), 30_000);
  await up.ready();
  const address = await until('where agents connect to', () => /Agents connect to (\S+):\n/.exec(up.stdout())?.[1]);
  const agent = (node: Node) => {
    const program = startProgram({
      name: node,
      args: [
        ...['agent', '-control-plane', address, '--node-id', node, '--state-dir', join(folder, node)],
        ...['--health-port', '0', '--metadata', 'off', '--log-format', 'json', '--allow-exec', 'sh'],
      ],
      env: { NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(wrongClock(OFF_MS[node]))}` },
    });
    onTestFinished(() => program.kill().then(() => undefined));
    return program;
  };
  return { up, agents: { ahead: agent('ahead'), behind: agent('behind') } };
}

it('judges nodes, lines and commands by right clocks, whatever an agent has for one', async () => {
  const { up, agents } = await start();
  const nodes = async () => (await (await fetch(`${up.url}/api/v1/nodes`)).json()) as NodeRow[];
  const find = async (node: Node) => (await nodes()).find(({ id }) => id === node);
  await until('both to be healthy', async () => {
    const found = await nodes();
    return found.length === 2 && found.every((node) => node.liveness === 'healthy' && node.stream_active);
  });

  const wrong: string[] = [];
  const firstMs = Date.now();
  await until(
    'both to have been seen for longer than until stale',
    async () => {
      const found = await nodes();
      for (const { id, liveness, last_seen } of found) {
        const agoMs = Date.now() - Date.parse(last_seen);
        if (liveness !== 'healthy' || Math.abs(agoMs) > STALE_MS) wrong.push(`${id} ${liveness}, seen ${agoMs} ms ago`);
      }
      return found.every(({ last_seen }) => Date.parse(last_seen) - firstMs > STALE_MS);
    },
    60_000,
  );
  expect(wrong).toEqual([]);

  const lines: Message[] = [];
  const socket = new Socket(wsUrl(up.url), {
    onMessage: (message) => message.type === 'stdout' && lines.push(message),
    keepsLines: true,
  });
  onTestFinished(() => socket.terminate());
  await socket.opened();
  for (const node of ['ahead', 'behind'] as const) {
    socket.send({ type: 'command', command: 'exec', target: node, args: ['sh', '-c', 'date +%s'] });
    const { exit_code } = await socket.next('its result', ({ type, target }) => type === 'result' && target === node);
    expect(exit_code).toBe(0);
    const [line, ...more] = lines.splice(0);
    expect(more).toEqual([]);
    expect(Math.abs(Date.parse(line?.['timestamp'] as string) - Date.now())).toBeLessThan(10_000);
  }

  // Its clock is set while a command runs: back by two days, and forward.
  for (const node of ['ahead', 'behind'] as const) {
    const run = startProgram({
      name: 'carrierarr run',
      args: ['run', '--wait', '--timeout', '3s', node, 'exec', '--', 'sh', '-c', 'echo begun; sleep 1000'],
      env: { CARRIERARR_URL: up.url },
    });
    const beganMs = performance.now();
    await until('its first line', () => run.stdout().includes('begun'));
    agents[node].signal('SIGUSR2');
    expect((await run.ended).code).toBe(124);
    expect(performance.now() - beganMs).toBeGreaterThan(2_500);
    expect((await find(node))?.liveness).toBe('healthy');
  }

  await agents.ahead.kill();
  await until('the killed one to be dead', async () => (await find('ahead'))?.liveness === 'dead', 60_000);
  expect((await find('behind'))?.liveness).toBe('healthy');
});
