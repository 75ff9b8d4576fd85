/** A pretend AWS, and the real SDK clients that talk to it. */
import { createLogger, Registry, systemClock, type Clock } from '@carrierarr/platform';
import type { WorkerRecord } from '@carrierarr/protocol';
import { Writable } from 'node:stream';
import { vi } from 'vitest';
import { ApiBudgets } from '../../../apps/monitor/src/observe/api-budgets.js';
import { AwsClients } from '../../../apps/monitor/src/observe/aws-clients.js';
import { createObserveMetrics } from '../../../apps/monitor/src/observe/metrics.js';
import type { Fleet } from '../../../apps/monitor/src/observe/tombstones.js';
import { FakeAws } from '../../support/fake-aws/server.js';
import { metricValues } from '../../support/metric.js';

export const REGION = 'eu-central-1';

export interface AwsSetup {
  readonly aws: FakeAws;
  readonly clients: AwsClients;
  readonly context: ReturnType<typeof observing>;
  stop(): Promise<void>;
}

/** Metrics, budgets and a log to look at. */
export function observing(clock: Clock = systemClock) {
  const registry = new Registry();
  const lines: string[] = [];
  const destination = new Writable({
    write(chunk: Buffer, _, done) {
      lines.push(chunk.toString());
      done();
    },
  });
  return {
    clock,
    registry,
    metrics: createObserveMetrics(registry),
    budgets: new ApiBudgets(clock),
    logger: createLogger({ program: 'test', destination }),
    lines,
  };
}

/** Time is the system's for the SDK; `nowMs` is the pretend cloud's. */
export async function startAws(options: { nowMs?: () => number; requestMsMax?: number } = {}): Promise<AwsSetup> {
  const aws = await FakeAws.start(options.nowMs);
  for (const [name, value] of Object.entries(aws.env)) vi.stubEnv(name, value);
  const clients = new AwsClients({ version: '1.2.3', ...options });
  return {
    aws,
    clients,
    context: observing(),
    async stop() {
      clients.destroy();
      vi.unstubAllEnvs();
      await aws.stop();
    },
  };
}

/** A signal that nobody aborts. */
export const unaborted = () => new AbortController().signal;

/** The value of a metric; undefined when it was never set with these labels. */
export async function metric(
  registry: Registry,
  name: string,
  labels: Record<string, string> = {},
): Promise<number | undefined> {
  const [first] = await metricValues(registry, name, labels);
  return first?.value;
}

export function worker(id: string, facts: Partial<WorkerRecord> = {}): WorkerRecord {
  return { id, provider: 'ec2', state: 'running', target: id, mapped_by: 'id', source: 'ec2/test', ...facts };
}

export const recordsOf = (fleet: Fleet): WorkerRecord[] => [...fleet.values()].map(({ record }) => record);
