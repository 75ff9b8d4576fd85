/** Terms of a leader over a real Redis, whose polls and runners are the test's own hand. */
import { randomBytes } from 'node:crypto';
import { createLogger, createMetrics, systemClock } from '@carrierarr/platform';
import type { Outcome, SourceReport, WorkerRecord } from '@carrierarr/protocol';
import {
  CommandStore,
  defineScripts,
  type DeposedError,
  DrainQueue,
  Leadership,
  NodeFollow,
  NodeRegistry,
  OrphanStore,
  ResourceFollow,
  WorkerStatusStore,
} from '@carrierarr/store';
import { Fleet } from '../../../apps/monitor/src/reconciler/fleet.js';
import { createNodesMetrics } from '../../../apps/monitor/src/agents/nodes/metrics.js';
import { createQueueMetrics, createReconcileMetrics } from '../../../apps/monitor/src/reconciler/metrics.js';
import { Others } from '../../../apps/monitor/src/reconciler/others.js';
import { Leading, type LeadingOptions } from '../../../apps/monitor/src/term.js';
import { fleetOf } from '../../support/fleet.js';
import { metricValues } from '../../support/metric.js';
import type { TestRedis } from '../../support/redis.js';
import { until } from '../../support/until.js';

export const EC2 = 'ec2/eu-central-1';
const POLL_MS = 50;
const RUNNER = { id: 'runner', incarnation: '1' };

/** Parts of a leader that are not as usual. */
type Otherwise = Partial<Omit<LeadingOptions, 'stores' | 'nodes'>> & {
  stores?: Partial<LeadingOptions['stores']>;
  nodes?: Partial<LeadingOptions['nodes']>;
};

/** A machine as EC2 shows it. */
export function machine(target: string, state = 'running', more: Partial<WorkerRecord> = {}): WorkerRecord {
  return {
    ...{ id: `i-${target}`, provider: 'ec2', state, target, mapped_by: 'tag:carrierarr:target', source: EC2 },
    ...{ launch_time: '2025-01-01T00:00:00.000Z', tags: { 'carrierarr:managed': 'true' } },
    ...more,
  };
}

/** An installation of its own in a Redis that others use too. */
export async function installation(redis: TestRedis) {
  const prefix = `t${randomBytes(4).toString('hex')}`;
  const desired = fleetOf(redis, prefix);
  const { keys, resources, events, history } = desired;
  const [connection, subscriber] = [redis.client(), redis.client()];
  defineScripts(connection);
  const bounds = { entriesMax: 1_000, bytesMax: 1 << 20, ageMaxMs: 3_600_000, executionsMs: 3_600_000 };
  const limits = { queueLengthMax: 3, pendingTargetsMax: 64_000, idempotencyMs: 86_400_000 };
  const commands = new CommandStore({ connection, keys, history: bounds, ...limits });
  const drain = new DrainQueue(connection, keys);
  const status = new WorkerStatusStore({ connection, keys });
  const orphans = new OrphanStore({ connection, keys });
  const registry = new NodeRegistry({ connection, keys });
  const leadership = new Leadership({ connection, keys, leaseMs: 600_000 });
  const logger = createLogger({ program: 'test', level: process.env['TEST_LOG'] ?? 'silent' });
  const follow = new ResourceFollow({
    ...{ subscriber, keys, store: resources, clock: systemClock },
    onError: () => undefined,
  });
  const fleet = new Fleet(follow);
  await follow.start();
  const terms: { end(): Promise<void> }[] = [];
  let holders = 0;

  /** Begins a term, as the next leader; the one before it ends only when it is told to. */
  async function lead(more: Otherwise = {}) {
    await connection.del(keys.leader());
    const hold = await leadership.hold(`leader-${(holders += 1)}`);
    if (!hold.leads) throw new Error('another leads');
    await leadership.raise(hold.fence);
    const metrics = createMetrics({ program: 'test', version: 'test', hasProcessMetrics: false });
    const controller = new AbortController();
    let deposedBy: DeposedError | undefined;
    const nudged: (string | undefined)[] = [];
    const term = {
      fence: hold.fence,
      signal: controller.signal,
      deposed(error: DeposedError) {
        deposedBy = error;
        controller.abort(error);
      },
    };
    let begin: () => void = () => undefined;
    const hasBegun = new Promise<void>((resolve) => (begin = resolve));
    let restored: readonly WorkerRecord[] = [];
    const observer: LeadingOptions['observer'] = {
      async start({ workers }) {
        restored = workers;
        begin();
      },
      stop: async () => {},
      nudge: (source?: string) => void nudged.push(source),
      expectChange() {},
      sources: [EC2],
    };
    const { stores, nodes, ...others } = more;
    const leading = new Leading(
      {
        ...{ fleet, status, orphans, observer, logger, clock: systemClock, monitor: 'monitor', onReport() {} },
        others: new Others({ connection, keys }),
        nodes: {
          ...{ connection, keys, registry, follow: new NodeFollow({ connection, keys }), isEndingDead: false },
          ...{ limits: { staleMs: 120_000, deadMs: 300_000 }, metrics: createNodesMetrics(metrics), ...nodes },
        },
        stores: { resources, commands, drain, events, store: commands, history, ...stores },
        ...{ isReconciling: true, isCollectingOrphans: false, concurrency: 4, resyncMs: 600_000 },
        metrics: {
          queue: createQueueMetrics(metrics, 'test', () => performance.now()),
          reconcile: createReconcileMetrics(metrics, 4),
        },
        ...others,
      },
      term,
    );
    const ended = leading.run();
    // It first reads what its predecessor published.
    await hasBegun;
    let polledAt: string | undefined;
    const report = (ok: boolean, source = EC2): SourceReport => {
      // A failed poll leaves the last complete one as it was.
      if (ok) polledAt = new Date().toISOString();
      const facts = { source, ok, interval_ms: 60_000, calls: 1, workers: 0 };
      return { ...facts, ...(polledAt !== undefined && { polled_at: polledAt }) };
    };
    const handle = {
      ...{ fence: hold.fence, nudged },
      /** What its sources begin with. */
      restored: () => restored,
      deposedBy: () => deposedBy,
      /** A complete poll that shows these machines anew. */
      poll: (upserts: WorkerRecord[], removed: string[] = [], source = EC2) =>
        leading.publish(report(true, source), { upserts, removed }),
      /** Complete polls that show nothing new, one after the other until the term ends: time goes on for those who wait for one. */
      goOnPolling() {
        const again = () => {
          if (controller.signal.aborted) return;
          void leading
            .publish(report(true), { upserts: [], removed: [] })
            .catch(() => undefined)
            .finally(() => systemClock.setTimeout(again, POLL_MS));
        };
        again();
      },
      /** A poll that failed. */
      failedPoll: () => leading.publish({ ...report(false), error: 'no answer' }, { upserts: [], removed: [] }),
      async metric(name: string, labels: Record<string, string> = {}) {
        const matching = await metricValues(metrics, name, labels);
        // Undefined where nothing was ever counted: Prometheus tells that from 0, too.
        if (matching.length === 0) return undefined;
        return matching.reduce((sum, { value }) => sum + value, 0);
      },
      /** Resolves when nothing waits and nothing is under way. */
      async quiet() {
        let before = -1;
        await until('the reconciler to come to rest', async () => {
          const looks = (await handle.metric('controller_runtime_reconcile_total')) ?? 0;
          const busy =
            ((await handle.metric('workqueue_depth')) ?? 0) +
            ((await handle.metric('controller_runtime_active_workers')) ?? 0);
          const isQuiet = busy === 0 && looks === before;
          before = looks;
          return isQuiet;
        });
      },
      async end() {
        controller.abort(new Error('the test ends the term'));
        await ended.catch(() => undefined);
      },
    };
    terms.push(handle);
    return handle;
  }

  return {
    ...{ desired, keys, resources, commands, history, status, orphans, registry, fleet, lead, connection },

    /** Somebody gives a command by hand. */
    async byHand(target: string, command: string): Promise<string> {
      const answer = await commands.submit({
        ...{ target, command, args: [], subject: 'alice', address: '', gateway: 'test', idempotent: false },
      });
      if (answer.kind !== 'accepted') throw new Error(answer.kind);
      return answer.execution;
    },

    /** Runs the next command of a target to its end; its execution. */
    async runNext(target: string, outcome: Outcome = 'succeeded', exitCode = 0) {
      const claim = await until(`a command of ${target}`, async () => {
        const answer = await commands.claim(target, RUNNER);
        return answer.kind === 'claimed' && answer;
      });
      await commands.finish(target, claim.execution.id, claim.fence, {
        ...{ outcome, exitCode, lines: 0, truncatedLines: 0, sequence: 0 },
      });
      return claim.execution;
    },

    async condition(name: string, type: string) {
      const worker = await resources.get('Worker', name);
      return worker?.status?.conditions.find((condition) => condition.type === type);
    },

    async stop() {
      for (const term of terms) await term.end();
      follow.stop();
    },
  };
}

export type TestInstallation = Awaited<ReturnType<typeof installation>>;
