/** The agent as a program: settings, probes, and one agent until a signal or a command ends it. */
import {
  type Component,
  createLogger,
  createMetrics,
  Lifecycle,
  loadConfig,
  OpsServer,
  printableConfig,
  type ProcessHost,
  Readiness,
  systemClock,
  version,
} from '@carrierarr/platform';
import { createAgent } from './agent.js';
import { agentSchema, validateAgentConfig } from './config.js';

export { createAgent } from './agent.js';

/** What it needs of its process. */
export interface AgentHost extends Pick<ProcessHost, 'on' | 'off'> {
  readonly env: NodeJS.ProcessEnv;
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
}

export interface RunAgentOptions {
  /** As the user typed it. */
  program: string;
  summary: string;
  argv: readonly string[];
  host: AgentHost;
  /** Variables of other programs that may be set. */
  knownEnv?: Iterable<string>;
}

/** Resolves to the exit code. Throws ConfigError. */
export async function runAgent({ program, summary, argv, host, knownEnv = [] }: RunAgentOptions): Promise<number> {
  const loaded = loadConfig({ program, summary, schema: agentSchema, argv, env: host.env, knownEnv });
  if (loaded.kind === 'help') {
    host.stdout.write(loaded.text);
    return 0;
  }
  const config = loaded.values;
  validateAgentConfig(config, program);
  const logger = createLogger({ program: 'agent', level: config.logLevel, format: config.logFormat });
  logger.info({ version: version(), config: printableConfig(config, agentSchema) }, 'starting');
  const metrics = createMetrics({ program: 'agent', version: version() });
  const readiness = new Readiness();
  const addr = { host: config.healthHost, port: config.healthPort };
  const flags = '--health-port and --health-host';
  const problems = () => agent.problems();
  const ops = new OpsServer({ addr, readiness, metrics, version: version(), logger, flags, problems });
  let failure: Error | undefined;
  const exit = () => void lifecycle.stop('a command said so');
  const agent = createAgent({ config, logger, metrics, readiness, clock: systemClock, env: host.env, exit });
  // Its failure to start is told in words, too.
  const watched: Component = {
    ...{ name: agent.name, stop: () => agent.stop() },
    ...(agent.stopDeadlineMs !== undefined && { stopDeadlineMs: agent.stopDeadlineMs }),
    async start() {
      try {
        await agent.start();
      } catch (error) {
        failure = error as Error;
        throw error;
      }
    },
  };
  // Probes are answered from the first moment to the last.
  const lifecycle: Lifecycle = new Lifecycle({ components: [ops, watched], logger });
  const code = await new Promise<number>((resolve, reject) => {
    const process = { on: host.on.bind(host), off: host.off.bind(host), stderr: host.stderr, exit: resolve };
    lifecycle.run(process).catch(reject);
  });
  if (failure !== undefined) host.stderr.write(`${program}: ${failure.message}\n`);
  return code;
}
