/** Many pretend agents in a process of their own, and what they testify of the commands they got. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { WORKSPACE } from './programs.js';
import { until } from './until.js';

export interface AgentsLoadOptions {
  /** `host:port` of the monitors; each agent takes one after the other. */
  addresses: readonly string[];
  count: number;
  /** Between two statuses, and between two heartbeats, of one agent. */
  intervalMs: number;
  /** With its virtual host. A fourth of the agents speaks nothing else, and a fourth both. */
  rabbitMqUrl: string;
  startMs: number;
}

export interface AgentsLoad {
  /** How often each execution was begun, by its id. */
  readonly ran: ReadonlyMap<string, number>;
  /** As the load counted last. */
  counts(): Readonly<Record<string, number>>;
  stop(): Promise<void>;
}

/** Resolves when all agents are connected. */
export async function startAgentsLoad(options: AgentsLoadOptions): Promise<AgentsLoad> {
  const { addresses, count, intervalMs, rabbitMqUrl, startMs } = options;
  const args = ['--addresses', addresses.join(','), '--count', `${count}`, '--interval-ms', `${intervalMs}`];
  const child = spawn(process.execPath, ['test/support/agents-load.mjs', ...args, '--rabbitmq-url', rabbitMqUrl], {
    cwd: WORKSPACE,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const ran = new Map<string, number>();
  let counts: Record<string, number> = {};
  let isReady = false;
  createInterface({ input: child.stdout }).on('line', (line) => {
    const { event, execution, ...rest } = JSON.parse(line) as { event: string; execution: string };
    if (event === 'ran') ran.set(execution, (ran.get(execution) ?? 0) + 1);
    else counts = rest;
    isReady ||= event === 'ready';
  });
  const stop = async () => {
    child.kill('SIGKILL');
    await exited;
  };
  try {
    await until(
      () => `${count} agents to connect (exit code ${child.exitCode})`,
      () => isReady || child.exitCode !== null,
      startMs,
    );
    if (!isReady) throw new Error(`The agents ended with ${child.exitCode} before they were connected.`);
  } catch (error) {
    await stop();
    throw error;
  }
  return { ran, counts: () => counts, stop };
}
