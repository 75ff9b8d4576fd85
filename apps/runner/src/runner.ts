/** Puts a runner together, and takes it apart in the right order. */
import { randomBytes } from 'node:crypto';
import { PipeFolder, readSecrets, Redactor, SpoolBudget } from '@carrierarr/execution';
import {
  type Clock,
  type Component,
  configEnvNames,
  createRedis,
  checkRedisServer,
  type Logger,
  type Readiness,
  type RedisSettings,
  type Registry,
  Seldom,
  sleep,
  systemClock,
  waitForRedis,
} from '@carrierarr/platform';
import { EXECUTION_VERSION, Keys } from '@carrierarr/protocol';
import {
  AgentMail,
  checkStoreFormat,
  CommandStore,
  defineScripts,
  DrainQueue,
  type HistoryBounds,
  Retention,
  RunnerRegistry,
} from '@carrierarr/store';
import { Announcer } from './announcer.js';
import { randomRunnerId, type RunnerConfig, runnerSchema } from './config.js';
import { DrainWorker } from './drain-worker.js';
import { type ExecutionLimits, RunningExecution } from './execution.js';
import { AgentAnswers } from './executors/agent-answers.js';
import { AgentExecutor } from './executors/agent.js';
import type { AgentPatience } from './executors/agent-verdict.js';
import type { Executors } from './executors/executor.js';
import { ScriptExecutor } from './executors/script.js';
import { HistoryKeeper } from './history/retention.js';
import { KillListener } from './kill-listener.js';
import { LeaseKeeper } from './lease.js';
import { createRunnerMetrics } from './metrics.js';
import { Sweeper } from './sweeper.js';

export interface RunnerOptions {
  config: RunnerConfig;
  redisSettings: RedisSettings;
  logger: Logger;
  metrics: Registry;
  /** Gets a check named `runner`. */
  readiness: Readiness;
  clock?: Clock;
  /** Environment of the scripts, before carrierarr's own variables are taken out. */
  env?: NodeJS.ProcessEnv;
  /** Names of the variables that configure this process; those of a runner alone when left out. */
  configNames?: Iterable<string>;
  /** The runner cannot go on: another process has its id. */
  onFatal?: (error: Error) => void;
}

/** A runner as a part of a program; `start` and `stop` once each. */
export interface RunnerComponent extends Component {
  /** Its name in executions' records. */
  readonly id: string;
  start(): Promise<void>;
  stop(): Promise<void>;
  readonly stopDeadlineMs: number;
}

/** For what Redis or the kernel must do after everything has been ended, ms. */
const STOP_MARGIN_MS = 5_000;
/** Between two words about commands that are left to newer runners, ms. */
const LEFT_TOLD_EVERY_MS = 60_000;
const CHECK = 'runner';

/**
 * Throws a `ConfigError` if the file of secrets cannot be read. Connects to nothing before `start`, which rejects if
 * Redis cannot be reached, is unfit, or holds data of another format. Without a script, commands for one are rejected
 * with `no_script`.
 */
export function createRunner(options: RunnerOptions): RunnerComponent {
  const { config, redisSettings, logger, readiness } = options;
  const { clock = systemClock, env = process.env, configNames = configEnvNames(runnerSchema), onFatal } = options;
  const runner = { id: config.runnerId ?? randomRunnerId(), incarnation: randomBytes(8).toString('hex') };
  const limits = executionLimits(config);
  const keys = new Keys(redisSettings.keyPrefix);
  const history: HistoryBounds = {
    entriesMax: config.historyEntries,
    bytesMax: config.historyBytes,
    ageMaxMs: config.historyAge,
    executionsMs: config.historyExecutions,
  };
  const redactor = new Redactor(
    readSecrets({
      ...{ config, env, logger, program: 'carrierarr runner' },
      own: { 'Redis password': redisSettings.password, 'Sentinel password': redisSettings.sentinelPassword },
    }),
  );
  const running = new Map<string, RunningExecution>();
  const budget = new SpoolBudget(config.spoolTotalBytes);
  const metrics = createRunnerMetrics(options.metrics, {
    running: () => running.size,
    spoolBytes: () => budget.used,
    appendsInFlight: () => [...running.values()].reduce((sum, execution) => sum + execution.appendsInFlight, 0),
  });

  const control = createRedis(redisSettings, { name: 'runner-control', role: 'commands', logger });
  const output = createRedis(redisSettings, { name: 'runner-output', role: 'commands', logger });
  const jobs = createRedis(redisSettings, { name: 'runner-jobs', role: 'bullmq', logger });
  const notices = createRedis(redisSettings, { name: 'runner-notices', role: 'subscriber', logger });
  for (const connection of [control, output]) defineScripts(connection);
  const storeOn = (connection: typeof control) =>
    // The bounds of submission are the gateways' affair.
    new CommandStore({ connection, keys, history, queueLengthMax: 0, pendingTargetsMax: 0, idempotencyMs: 0 });
  const store = storeOn(control);
  const outputStore = storeOn(output);
  const pipes = new PipeFolder('runner');
  const mail = new AgentMail({ connection: control, keys });
  const agents: AgentPatience = { outageGraceMs: config.agentOutageGrace, killGraceMs: config.killGrace };
  const answers = new AgentAnswers({
    ...{ connection: notices, keys },
    onTrouble: (error) => logger.debug({ err: error }, 'answers of agents'),
  });
  const executors: Executors = {
    agent: new AgentExecutor({ ...agents, mail, answers, outputBytesMax: config.outputBytesMax, clock, logger }),
    ...(config.script !== null && {
      script: new ScriptExecutor({ script: config.script, pipes, env, configNames, metrics, clock, logger }),
    }),
  };

  const leases = new LeaseKeeper({
    renew: (target, fence) => store.renew(target, fence),
    outageGraceMs: config.redisOutageGrace,
    clock,
    onRenewalFailed: (error) => {
      metrics.renewalFailures.inc();
      logger.debug({ err: error }, 'lease not renewed');
    },
  });
  const killListener = new KillListener({
    ...{ connection: notices, keys },
    onNotice: (execution) => void leases.refresh(execution),
    onTrouble: (error) => logger.debug({ err: error }, 'kill notices'),
  });
  const announcer = new Announcer({
    ...{ registry: new RunnerRegistry(control, keys), runner, clock },
    concurrency: config.concurrency,
    running: () => running.size,
    onSuperseded: ({ host, pid }) => {
      isStopping = true;
      readiness.set(CHECK, false, 'another process has this runner id');
      onFatal?.(
        new Error(
          `Runner id "${runner.id}" was taken over by process ${pid} on ${host}. Give each runner its own --runner-id.`,
        ),
      );
    },
    onTrouble: (error) => logger.debug({ err: error }, 'not announced'),
  });
  const historyKeeper = new HistoryKeeper({
    retention: new Retention({ connection: control, keys, history, totalBytesMax: config.historyTotalBytes }),
    owner: `${runner.id} ${runner.incarnation}`,
    ...{ clock, metrics, logger },
  });

  let isStopping = false;
  /** Commands that run are being ended. */
  let isGraceOver = false;
  let queue: DrainQueue | undefined;
  let worker: DrainWorker | undefined;
  let sweeper: Sweeper | undefined;

  /** Sweepers bring up what is left to a newer runner every few seconds, for each target. */
  const leftToNewer = new Seldom(clock, LEFT_TOLD_EVERY_MS);
  const leaveToNewer = (target: string, { execution, version }: { execution: string; version: number }) => {
    metrics.badJobs.inc();
    leftToNewer.say((unsaid) =>
      logger.error(
        { execution, target, version, unsaid },
        `Expected a command of version ${EXECUTION_VERSION} or older: this runner is older than the gateway that accepted it, so it ` +
          'leaves it, and all that waits behind it, to a newer runner. Upgrade the runners, or kill the command.',
      ),
    );
  };

  const drainOnce = async (target: string): Promise<void> => {
    if (isStopping) {
      // Kept until this job ends, then another runner gets it.
      await queue?.add(target);
      return;
    }
    const claimedMs = clock.monotonicMs();
    const answer = await store.claim(target, runner);
    if (answer.kind === 'newer') leaveToNewer(target, answer);
    if (answer.kind !== 'claimed') return;
    const { execution, fence } = answer;
    const { id, command, accepted_at, started_at } = execution;
    logger.info(
      { execution: id, target, command, subject: execution.subject, attempt: execution.attempt },
      'execution started',
    );
    metrics.startLatency.observe((Date.parse(started_at ?? accepted_at) - Date.parse(accepted_at)) / 1000);
    const current = new RunningExecution({
      ...{ execution, fence, limits, store, outputStore, leases, executors, budget, redactor },
      ...{ metrics, clock, logger },
    });
    running.set(id, current);
    if (isGraceOver) current.shutDown();
    const hasMore = await current.run(claimedMs);
    running.delete(id);
    if (hasMore) await queue?.add(target);
  };

  /** Jobs under way. One whose claim has yet to be answered may be about to start a command. */
  let draining = 0;
  const drain = async (target: string): Promise<void> => {
    draining += 1;
    try {
      await drainOnce(target);
    } finally {
      draining -= 1;
    }
  };

  /** Resolves when nothing runs any more and nothing is about to, or after `ms`. */
  const idleWithin = async (ms: number): Promise<void> => {
    const deadlineMs = clock.monotonicMs() + ms;
    while (draining > 0 && clock.monotonicMs() < deadlineMs) await sleep(clock, 50);
  };
  const within = (ms: number, work: Promise<unknown>) => Promise.race([work.catch(() => undefined), sleep(clock, ms)]);

  const onReady = () => readiness.set(CHECK, !isStopping);
  const onClose = () => readiness.set(CHECK, false, 'no connection to Redis');

  return {
    name: 'runner',
    id: runner.id,
    stopDeadlineMs: config.shutdownGrace + config.killGrace + 5 * STOP_MARGIN_MS,

    async start() {
      readiness.set(CHECK, false, 'not started yet');
      try {
        await Promise.all(
          [control, output].map((connection) => waitForRedis(connection, { settings: redisSettings, clock })),
        );
        const { errors, warnings } = await checkRedisServer(control);
        for (const warning of warnings) logger.warn(warning);
        if (errors.length > 0) throw new Error(errors.join(' '));
        await checkStoreFormat(control, keys);
        await pipes.open();
        queue = new DrainQueue(control, keys);
        worker = new DrainWorker({ connection: jobs, keys, concurrency: config.concurrency, drain, metrics, logger });
        sweeper = new Sweeper({
          ...{ store, queue, runner, mail, agents, clock, metrics, logger },
          outageGraceMs: config.redisOutageGrace,
          isRunningHere: (execution) => running.has(execution),
        });
        await announcer.start(await store.redisNowMs());
        await sweeper.reapOwn();
      } catch (error) {
        announcer.stop();
        await pipes.close();
        for (const connection of [control, output, jobs, notices]) connection.disconnect();
        throw error;
      }
      leases.start();
      answers.start();
      // Connects for both.
      killListener.start();
      sweeper.start();
      historyKeeper.start();
      worker.start();
      control.on('ready', onReady);
      control.on('close', onClose);
      onReady();
      logger.info(
        { runner: runner.id, script: config.script, concurrency: config.concurrency },
        'runner takes commands',
      );
    },

    async stop() {
      isStopping = true;
      readiness.set(CHECK, false, 'stopping');
      if (worker !== undefined) await within(STOP_MARGIN_MS, worker.pause());
      if (running.size > 0)
        logger.info({ running: running.size, graceMs: config.shutdownGrace }, 'letting commands end');
      await idleWithin(config.shutdownGrace);
      isGraceOver = true;
      for (const execution of running.values()) execution.shutDown();
      await idleWithin(config.killGrace + STOP_MARGIN_MS);
      for (const execution of running.values()) execution.abandon();
      await idleWithin(STOP_MARGIN_MS);
      control.off('ready', onReady);
      control.off('close', onClose);
      announcer.stop();
      killListener.stop();
      answers.stop();
      await within(STOP_MARGIN_MS, Promise.all([sweeper?.stop(), historyKeeper.stop(), worker?.close()]));
      if (queue !== undefined) await within(STOP_MARGIN_MS, queue.close());
      leases.stop();
      for (const connection of [control, output, jobs, notices]) connection.disconnect();
      await pipes.close();
    },
  };
}

function executionLimits(config: RunnerConfig): ExecutionLimits {
  return {
    allowedCommands: config.allowedCommands,
    timeoutMs: config.commandTimeout,
    timeoutMaxMs: config.commandTimeoutMax,
    killGraceMs: config.killGrace,
    lineBytesMax: config.maxLineBytes,
    spoolBytesMax: config.spoolBytes,
    outputBytesMax: config.outputBytesMax,
  };
}
