/**
 * RabbitMQ, a monitor and Redis go away and come back one after the other under many agents while commands run on some of
 * them. All nodes are back soon, nobody is held for stale or dead on any answer meanwhile, no command runs twice, and each has
 * an outcome.
 *
 * SCENARIO_AGENTS=1000 takes as many; then they speak more seldom, and outages last longer.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { startAgentsLoad } from '../support/agents-load.js';
import { fleetOf } from '../support/fleet.js';
import { NodesWatch } from '../support/nodes-watch.js';
import { Installation } from '../support/installation.js';
import { type Program, startMonitor, startProgram } from '../support/programs.js';
import { BROKER_START_MS, startRabbitMq, VHOST } from '../support/rabbitmq.js';
import { until } from '../support/until.js';
import { type Message, protocolsWith, Socket, wsUrl } from '../support/ws-clients.js';

const AGENTS = Number(process.env['SCENARIO_AGENTS'] ?? 200);
/** Of our own program beside the pretended ones. */
const REAL_AGENTS = ['real-1', 'real-2'];
/** As much for the machine in either case. */
const INTERVAL_MS = Math.max(2_500, AGENTS * 5);
/** Longer than an agent may take to find another monitor on a busy machine. */
const STALE_MS = 8 * INTERVAL_MS;
const DEAD_MS = 12 * INTERVAL_MS;
const COMMAND_TIMEOUT_MS = 15_000;
/** A command whose agent forgot it, or whose runner waited for it in vain, ends after this. */
const ENDED_MS = COMMAND_TIMEOUT_MS + 45_000;
const OUTCOMES = new Set(['succeeded', 'lost', 'timed-out']);
const MONITOR_FLAGS = [
  ...['--stale-timeout', `${STALE_MS}ms`, '--dead-threshold', `${DEAD_MS}ms`],
  ...['--agent-status-interval', `${INTERVAL_MS}ms`, '--agent-heartbeat-interval', `${INTERVAL_MS}ms`],
  ...['--agent-streams-per-address-max', '100000', '--agent-calls-per-second', '10000'],
];

/** Gives commands over one WebSocket, and keeps what became of each. */
class Commander {
  readonly outcomes = new Map<string, string>();
  readonly refused = new Map<string, string>();
  readonly accepted = new Map<string, string>();
  readonly #targets: string[] = [];
  readonly #socket: Socket;

  constructor(url: string) {
    this.#socket = new Socket(wsUrl(url), {
      protocols: protocolsWith(),
      onMessage: (message) => this.#take(message),
    });
  }

  async ready(): Promise<void> {
    await this.#socket.opened();
    this.#socket.send({ type: 'subscribe', target: '*', offsets: true });
    await this.#socket.next('to be subscribed', ({ type }) => type === 'subscribed');
  }

  get isOpen(): boolean {
    return this.#socket.isOpen;
  }

  exec(target: string, ...argv: string[]): string {
    const id = `${this.#targets.push(target) - 1}`;
    this.#socket.send({ type: 'command', command: 'exec', target, id, args: argv });
    return id;
  }

  targetOf(id: string): string {
    return this.#targets[Number(id)] as string;
  }

  /** Waits until each command is accepted or refused. */
  async answered(): Promise<void> {
    await until(
      () => `${this.#targets.length} commands to be answered, not only ${this.accepted.size} and ${this.refused.size}`,
      () => this.accepted.size + this.refused.size === this.#targets.length,
      30_000,
    );
  }

  /** Waits until each accepted command has ended. */
  async ended(): Promise<void> {
    await this.answered();
    const open = () => [...this.accepted].filter(([, execution]) => !this.outcomes.has(execution));
    await until(
      () => `the end of ${JSON.stringify(open().slice(0, 10))}`,
      () => open().length === 0,
      ENDED_MS,
    );
  }

  stop(): void {
    this.#socket.terminate();
  }

  #take({ type, id, execution_id: execution, outcome, code }: Message): void {
    if (type === 'accepted') this.accepted.set(id, execution);
    if (type === 'error' && id !== undefined) this.refused.set(id, code);
    if (type !== 'result') return;
    // Exactly one of each.
    this.outcomes.set(execution, this.outcomes.has(execution) ? 'told twice' : outcome);
  }
}

/** Where it serves agents. */
async function grpcPort(monitor: Program): Promise<string> {
  return until(
    `${monitor.name} to serve agents`,
    () => /:(\d+)"[^\n]*"msg":"agents are served"/.exec(monitor.output())?.[1],
  );
}

async function linesOf(path: string): Promise<string[]> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.split('\n').slice(0, -1);
}

/** Every agent but those that RabbitMQ alone connects is to be commanded; a seventh of them is. */
const COMMANDED = Array.from({ length: AGENTS }, (_, n) => n)
  .filter((n) => n % 4 !== 0 && n % 7 === 3)
  .map((n) => `bench-${n}`);

test('RabbitMQ, a monitor and Redis restart under many agents: all are back, none was held for dead, and nothing ran twice or was lost in silence', async () => {
  const broker = await startRabbitMq();
  onTestFinished(() => broker.stop(), BROKER_START_MS);
  const folder = await mkdtemp(join(tmpdir(), 'carrierarr-outage-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 }));
  const monitorFlags = [...MONITOR_FLAGS, '--rabbitmq-url', broker.url];
  const it = await Installation.start({
    ...{ gateways: 1, runners: 1, monitors: 2, monitorFlags: ['--grpc-addr', '127.0.0.1:0', ...monitorFlags] },
    runnerFlags: ['--command-timeout', `${COMMAND_TIMEOUT_MS}ms`, '--concurrency', '1000'],
  });
  const portOf = new Map<string, string>();
  for (const monitor of it.monitors) portOf.set(monitor.name, await grpcPort(monitor));
  const addresses = [...portOf.values()].map((port) => `127.0.0.1:${port}`);
  for (const name of REAL_AGENTS) {
    const ways = ['-control-plane', addresses.join(','), '-rabbitmq-url', broker.url];
    const flags = ['--state-dir', join(folder, name), '--health-port', '0', '--metadata', 'off', '--allow-exec', 'sh'];
    const agent = startProgram({ name, args: ['agent', ...ways, '--node-id', name, ...flags] });
    onTestFinished(() => agent.stop().then(() => undefined), 30_000);
  }
  const load = await startAgentsLoad({
    ...{ addresses, count: AGENTS, intervalMs: INTERVAL_MS, rabbitMqUrl: `${broker.url}/${VHOST}`, startMs: 120_000 },
  });
  onTestFinished(() => load.stop());
  const total = AGENTS + REAL_AGENTS.length;
  const watch = new NodesWatch(it.gateway(0).url);
  onTestFinished(() => watch.stop());
  await watch.back(total, 0);
  watch.begin();
  const commander = new Commander(it.gateway(0).url);
  onTestFinished(() => commander.stop());
  await commander.ready();

  const witness = join(folder, 'ran');
  let words = 0;
  const give = () => {
    for (const [i, name] of COMMANDED.entries()) commander.exec(name, 'sleep', `${1 + (i % 5)}`);
    for (const name of REAL_AGENTS)
      commander.exec(name, 'sh', '-c', `echo word-${(words += 1)} >> ${witness}; sleep 3; echo done`);
  };
  /** How often commands have begun, on whatever agent. */
  const begun = async () =>
    (await linesOf(witness)).length + [...load.ran.values()].reduce((sum, times) => sum + times, 0);
  const giveAndAwait = async () => {
    give();
    await commander.answered();
    await until('all commands to run', async () => (await begun()) >= commander.accepted.size, 30_000);
  };
  const times: string[] = [];
  const tell = (what: string, downMs: number, backMs: number) =>
    times.push(`${what}: away for ${(downMs / 1000).toFixed(1)} s, all back ${(backMs / 1000).toFixed(1)} s later`);

  await giveAndAwait();
  const brokerGoneMs = Date.now();
  await broker.halt();
  // So long that silence alone would make them stale.
  await until('the outage to be a long one', () => Date.now() - brokerGoneMs > STALE_MS + INTERVAL_MS, 2 * STALE_MS);
  await broker.start();
  const brokerBackMs = Date.now();
  tell('RabbitMQ', brokerBackMs - brokerGoneMs, await watch.back(total, brokerBackMs));
  await commander.ended();
  // The way of commands was whole.
  expect(new Set(commander.outcomes.values())).toEqual(new Set(['succeeded']));

  await giveAndAwait();
  const leader = (await fleetOf(it.redis).leader())?.monitor;
  const victim = it.monitors.find(({ name }) => name === leader) as Program;
  it.retire(victim);
  const killedMs = Date.now();
  await victim.kill();
  const again = startMonitor({
    ...{ name: victim.name, redisUrl: it.redis.url },
    flags: ['--grpc-addr', `127.0.0.1:${portOf.get(victim.name)}`, ...monitorFlags],
  });
  it.monitors.push(again);
  tell('the leading monitor', 0, await watch.back(total, killedMs));
  await again.ready();
  await commander.ended();

  await giveAndAwait();
  const redisGoneMs = Date.now();
  await it.redis.kill();
  give();
  await it.redis.start();
  const redisBackMs = Date.now();
  tell('Redis', redisBackMs - redisGoneMs, await watch.back(total, redisBackMs));
  await commander.ended();

  await watch.stop();
  const all = [...commander.outcomes.values()];
  const tally = [...new Set(all)].map((outcome) => `${all.filter((each) => each === outcome).length} ${outcome}`);
  process.stdout.write(
    `${AGENTS} agents. ${times.join('; ')}. Commands: ${tally.join(', ')}, ${commander.refused.size} refused. ` +
      `${watch.answers} looks at the fleet answered, ${watch.refusals} not.\n`,
  );
  expect([...watch.silent]).toEqual([]);
  expect(watch.answers).toBeGreaterThan(20);
  expect(commander.isOpen).toBe(true);
  // By each agent's own count. What was refused ran nowhere.
  expect([...load.ran].filter(([, count]) => count > 1)).toEqual([]);
  const accepted = new Set(commander.accepted.values());
  expect([...load.ran.keys()].filter((execution) => !accepted.has(execution))).toEqual([]);
  expect([...commander.outcomes.values()].filter((outcome) => !OUTCOMES.has(outcome))).toEqual([]);
  for (const [id, execution] of commander.accepted) {
    const isReal = !COMMANDED.includes(commander.targetOf(id));
    if (commander.outcomes.get(execution) === 'succeeded' && !isReal)
      expect([id, load.ran.get(execution)]).toEqual([id, 1]);
  }
  const lines = await linesOf(witness);
  expect(new Set(lines).size).toBe(lines.length);
}, 600_000);
