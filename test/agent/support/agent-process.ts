/** Agents under test: in this process, or as one of their own. */
import { Writable } from 'node:stream';
import { agentSchema, loadAgent, validateAgentConfig } from '@carrierarr/agent';
import { type Clock, createLogger, createMetrics, loadConfig, Readiness, systemClock } from '@carrierarr/platform';
import { metricValues } from '../../support/metric.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

const open: (() => Promise<void>)[] = [];

/** Ends all that the helpers of this file have begun. */
export async function endAgents(): Promise<void> {
  for (const end of open.splice(0).toReversed()) await end();
}

/** Flags with which an agent finds nothing of this machine but what a test gives it. */
export const QUIET = [
  '--metadata',
  'off',
  '--nvidia-smi',
  '/nonexistent/nvidia-smi',
  '--ollama-url',
  'http://127.0.0.1:1',
];

export interface TestAgent {
  stateDir: string;
  readiness: Readiness;
  logs(): string;
  metric(name: string): Promise<number>;
  problems(): string[];
  exits: number;
  stop(): Promise<void>;
}

export interface TestAgentOptions {
  flags: readonly string[];
  stateDir?: string;
  env?: Record<string, string>;
  clock?: Clock;
}

/** An agent in this process, started. */
export async function startAgent({
  flags,
  stateDir,
  env = {},
  clock = systemClock,
}: TestAgentOptions): Promise<TestAgent> {
  const folder = stateDir ?? temporaryFolder('agent-');
  const argv = [...QUIET, '--state-dir', folder, '--node-id', 'node-1', ...flags];
  const loaded = loadConfig({ program: 'carrierarr-agent', summary: '', schema: agentSchema, argv, env: {} });
  if (loaded.kind !== 'config') throw new Error('Expected a configuration.');
  validateAgentConfig(loaded.values);
  let logs = '';
  const destination = new Writable({
    write(chunk, _encoding, done) {
      logs += String(chunk);
      done();
    },
  });
  const registry = createMetrics({ program: 'agent', version: 'test', hasProcessMetrics: false });
  const made: TestAgent = {
    ...{ stateDir: folder, readiness: new Readiness(), exits: 0, logs: () => logs },
    async metric(name) {
      return (await metricValues(registry, name)).reduce((sum, { value }) => sum + value, 0);
    },
    ...{ stop: () => ended(), problems: () => agent.problems() },
  };
  const { createAgent } = await loadAgent();
  const agent = createAgent({
    ...{ config: loaded.values, clock, readiness: made.readiness, metrics: registry },
    logger: createLogger({ program: 'agent', level: 'debug', format: 'json', destination }),
    env: { PATH: process.env['PATH'] ?? '', ...env },
    exit: () => void (made.exits += 1),
  });
  let stopping: Promise<void> | undefined;
  const ended = () => (stopping ??= agent.stop());
  open.push(ended);
  await agent.start();
  return made;
}
