/** Redis, gateways, runners and monitors for one scenario, whose control script is the witness, and the verdict on its history. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFailed, onTestFinished } from 'vitest';
import { type JournalEvent, parseJournal } from './history.js';
import { checkHistory, type HistoryReport, summarise } from './history-checker.js';
import { type Program, type Release, startGateway, startMonitor, startRunner, WORKSPACE } from './programs.js';
import { Recorder } from './recorder.js';
import { startRedis, type TestRedis } from './redis.js';
import { until } from './until.js';
import { NewClient, type NewClientOptions, OldClient, type OldClientOptions } from './ws-clients.js';

/** Limits out of the way of scenarios that are about something else. */
const GATEWAY_FLAGS = [
  ...['--commands-per-second', '10000', '--commands-burst', '10000', '--messages-per-second', '20000'],
  ...['--drain-delay', '100ms', '--drain-spread', '300ms', '--shutdown-grace', '5s'],
];
const RUNNER_FLAGS = ['--kill-grace', '1s', '--shutdown-grace', '30s'];
/** Scripts are asked as often as a monitor may. */
const MONITOR_FLAGS = ['--poll', '1s'];
const LOG_CHARS_SHOWN = 3_000;

export interface InstallationOptions {
  gateways?: number;
  runners?: number;
  gatewayFlags?: readonly string[];
  runnerFlags?: readonly string[];
  /** None by default. */
  monitors?: number;
  monitorFlags?: readonly string[];
  /** Variables of the monitors, such as those that say which cloud they watch. */
  monitorEnv?: Record<string, string>;
  /** By default the witness. */
  script?: string;
  /** Ways to a Redis of the test's own, such as a Cluster; by default one server is started. */
  redisFlags?: readonly string[];
  /** Variables of the runners, which scripts inherit. */
  scriptEnv?: Record<string, string>;
  /** Whose programs it starts with; this release's by default. */
  release?: Release | undefined;
}

/** How one more program is started. */
export interface AddOptions {
  /** Another way to the same Redis. */
  redisUrl?: string;
  /** Whose program; this release's by default. */
  release?: Release | undefined;
}

export class Installation {
  readonly recorder = new Recorder();
  readonly gateways: Program[] = [];
  readonly runners: Program[] = [];
  readonly monitors: Program[] = [];
  readonly #clients: { stop(): void }[] = [];
  readonly #retired: Program[] = [];
  readonly #ownRedis: TestRedis | undefined;
  #names = 0;

  private constructor(
    ownRedis: TestRedis | undefined,
    /** Journal and release files of the witness. */
    readonly folder: string,
    readonly options: InstallationOptions,
  ) {
    this.#ownRedis = ownRedis;
  }

  /** Starts all of it; it ends with the test, and shows the programs' logs if that fails. */
  static async start(options: InstallationOptions = {}): Promise<Installation> {
    const redis = options.redisFlags === undefined ? await startRedis({ appendOnly: true }) : undefined;
    const folder = await mkdtemp(join(tmpdir(), 'carrierarr-witness-'));
    await writeFile(join(folder, 'journal'), '');
    const it = new Installation(redis, folder, options);
    onTestFinished(() => it.#stop(), 30_000);
    onTestFailed(() => it.#showLogs());
    await Promise.all([
      ...Array.from({ length: options.gateways ?? 2 }, () => it.addGateway({ release: options.release })),
      ...Array.from({ length: options.runners ?? 2 }, () => it.addRunner({ release: options.release })),
      ...Array.from({ length: options.monitors ?? 0 }, () => it.addMonitor({ release: options.release })),
    ]);
    return it;
  }

  /** The one server; throws where a test brought its own. */
  get redis(): TestRedis {
    if (this.#ownRedis === undefined) throw new Error('The Redis of this installation belongs to its test.');
    return this.#ownRedis;
  }

  /** One more gateway, ready. */
  async addGateway({ redisUrl = this.#redisUrl, release }: AddOptions = {}): Promise<Program> {
    const name = `gateway-${(this.#names += 1)}`;
    const flags = [...GATEWAY_FLAGS, '--gateway-id', name, ...this.#redisFlags, ...(this.options.gatewayFlags ?? [])];
    const program = startGateway({ name, redisUrl, flags, release });
    this.gateways.push(program);
    await program.ready();
    return program;
  }

  /** One more runner, ready. */
  async addRunner({ redisUrl = this.#redisUrl, release }: AddOptions = {}): Promise<Program> {
    const name = `runner-${(this.#names += 1)}`;
    const program = startRunner({
      ...{ name, redisUrl, release },
      script: this.options.script ?? join(WORKSPACE, 'test/fixtures/witness.sh'),
      flags: [...RUNNER_FLAGS, ...this.#redisFlags, ...(this.options.runnerFlags ?? [])],
      env: {
        WITNESS_DIR: this.folder,
        MOCK_WORKER_STATE_DIR: join(this.folder, 'mock-worker'),
        // A runner that is killed leaves its pipes behind.
        TMPDIR: this.folder,
        ...this.options.scriptEnv,
      },
    });
    this.runners.push(program);
    await program.ready();
    return program;
  }

  /** One more monitor, ready: it leads or stands by. */
  async addMonitor({ redisUrl = this.#redisUrl, release }: AddOptions = {}): Promise<Program> {
    const name = `monitor-${(this.#names += 1)}`;
    const flags = [...MONITOR_FLAGS, ...this.#redisFlags, ...(this.options.monitorFlags ?? [])];
    const program = startMonitor({ name, redisUrl, flags, release, env: this.options.monitorEnv ?? {} });
    this.monitors.push(program);
    await program.ready();
    return program;
  }

  /** Takes a program that ends or has ended out of the lists, so that nobody connects to it any more. */
  retire(program: Program): void {
    this.#retired.push(program);
    for (const list of [this.gateways, this.runners, this.monitors]) {
      const index = list.indexOf(program);
      if (index >= 0) list.splice(index, 1);
    }
  }

  gateway(index: number): Program {
    return at(this.gateways, index, 'gateway');
  }
  runner(index: number): Program {
    return at(this.runners, index, 'runner');
  }

  /** A client of the old protocol on one gateway. */
  async oldClient(
    name: string,
    gateway: Program = this.gateway(0),
    more: Pick<OldClientOptions, 'keepsLines' | 'onMessage'> = {},
  ): Promise<OldClient> {
    const client = await OldClient.connect({ name, url: gateway.url, recorder: this.recorder, ...more });
    this.#clients.push({ stop: () => client.socket.terminate() });
    return client;
  }

  /** A client of the new protocol that begins on one gateway and goes on at any other. */
  async newClient(
    name: string,
    more: Partial<NewClientOptions> & { gateway?: Program; targets: readonly string[] | '*' },
  ): Promise<NewClient> {
    const { gateway, ...options } = more;
    const first = gateway ?? this.gateway(0);
    const urls = () => {
      const all = this.gateways.map((program) => program.url);
      return all.includes(first.url) ? [first.url, ...all.filter((url) => url !== first.url)] : all;
    };
    const client = await NewClient.connect({ name, recorder: this.recorder, urls, ...options });
    this.#clients.push(client);
    return client;
  }

  /** What the scripts have testified so far. */
  async journal(): Promise<JournalEvent[]> {
    const text = await readFile(join(this.folder, 'journal'), 'utf8');
    // The last line may be half written.
    return parseJournal(text.slice(0, text.lastIndexOf('\n') + 1));
  }

  /** Lets the script of a command that holds end. */
  async release(commandId: string): Promise<void> {
    await writeFile(join(this.folder, 'release', commandId), '');
  }

  /** The script of a command has started: its first event. */
  async started(commandId: string, timeoutMs?: number): Promise<Extract<JournalEvent, { kind: 'start' }>> {
    return until(
      `the script of ${commandId} to start`,
      async () => (await this.journal()).find((event) => event.kind === 'start' && event.commandId === commandId),
      timeoutMs,
    ) as Promise<Extract<JournalEvent, { kind: 'start' }>>;
  }

  /** The runner whose child runs an execution. */
  async runnerOf(execution: string): Promise<Program> {
    return until(`a runner to say that it runs ${execution}`, async () => {
      const answer = await fetch(`${this.gateway(0).url}/api/v1/executions/${execution}`);
      const { runner } = (await answer.json()) as { runner?: string };
      return this.runners.find((program) => program.name === runner);
    });
  }

  /** Waits until every command has ended and everybody has seen it; then judges. Fails the test unless all is well. */
  async verdict(scenario: string, options: { timeoutMs?: number } = {}): Promise<HistoryReport> {
    let pending: string | undefined;
    await until(
      () => `the history to come to rest: ${pending}`,
      async () => {
        pending = this.recorder.pending(await this.journal());
        return pending === undefined;
      },
      options.timeoutMs ?? 30_000,
    ).catch((error: unknown) => {
      // What is missing may show why.
      process.stderr.write(`${String(error)}\n`);
      throw error;
    });
    const report = checkHistory(this.recorder.history(await this.journal()));
    process.stdout.write(`${summarise(scenario, report)}\n`);
    // First: a line that was not recorded leaves a hole in what was.
    expect(this.recorder.sessions.flatMap((session) => session.firstStrangeLines)).toEqual([]);
    expect(report.violations.slice(0, 20)).toEqual([]);
    expect(report).toMatchObject({ lost: 0, doubled: 0, reordered: 0, doubleExecutions: 0 });
    return report;
  }

  get #redisFlags(): readonly string[] {
    return this.options.redisFlags ?? [];
  }

  /** Of a Redis that its flags describe, it says only user and password: none. */
  get #redisUrl(): string {
    return this.#ownRedis?.url ?? 'redis://127.0.0.1';
  }

  #programs(): Program[] {
    return [...this.gateways, ...this.runners, ...this.monitors, ...this.#retired];
  }

  #showLogs(): void {
    for (const program of this.#programs()) {
      process.stderr.write(
        `\n--- ${program.name} (pid ${program.pid}) wrote at last:\n${program.output().slice(-LOG_CHARS_SHOWN)}\n`,
      );
    }
  }

  async #stop(): Promise<void> {
    for (const client of this.#clients) client.stop();
    await Promise.all(this.#programs().map((program) => program.kill()));
    await this.#ownRedis?.stop();
    // Scripts of killed runners end within seconds, and testify until then.
    await rm(this.folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 });
  }
}

function at(list: readonly Program[], index: number, what: string): Program {
  const program = list[index];
  if (program === undefined) throw new Error(`There is no ${what} ${index}; there are ${list.length}.`);
  return program;
}
