/**
 * What the reconciler counts, under the names that controller-runtime uses, so that dashboards made for Kubernetes
 * controllers show this one. Durations in seconds.
 */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/** What a work queue tells when somebody asks. */
interface QueueLevels {
  readonly depth: number;
  readonly processing: ReadonlyMap<string, number>;
}

/** The buckets of client-go: decades from 10 ns; those below 1 µs are nothing to us. */
const QUEUE_BUCKETS = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100, 1000];
const RECONCILE_BUCKETS = [
  ...[0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8],
  ...[0.9, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 60],
];
const CONTROLLERS = ['worker', 'workerpool'] as const;
export type ControllerName = (typeof CONTROLLERS)[number];
const RESULTS = ['success', 'error', 'requeue', 'requeue_after'] as const;
export type ReconcileResult = (typeof RESULTS)[number];

export type QueueMetrics = ReturnType<typeof createQueueMetrics>;

/** The metrics of the work queues that follow each other in one process under one name. */
export function createQueueMetrics(registry: Registry, name: string, monotonicMs: () => number) {
  const registers = [registry];
  const labelNames = ['name'] as const;
  let queue: QueueLevels | undefined;
  const gauge = (metric: string, help: string, level: (levels: QueueLevels) => number) =>
    new Gauge({
      ...{ name: `workqueue_${metric}`, help, labelNames, registers },
      collect() {
        this.set({ name }, queue === undefined ? 0 : level(queue));
      },
    });
  const runningSeconds = (levels: QueueLevels) =>
    [...levels.processing.values()].map((beganMs) => (monotonicMs() - beganMs) / 1000);
  gauge('depth', 'Keys that wait to be looked at.', (levels) => levels.depth);
  gauge('unfinished_work_seconds', 'Time that looks under way have taken so far, together.', (levels) =>
    runningSeconds(levels).reduce((sum, seconds) => sum + seconds, 0),
  );
  gauge('longest_running_processor_seconds', 'Time that the longest look under way has taken.', (levels) =>
    Math.max(0, ...runningSeconds(levels)),
  );
  const counter = (metric: string, help: string) => {
    const made = new Counter({ name: `workqueue_${metric}`, help, labelNames, registers }).labels(name);
    made.inc(0);
    return made;
  };
  const histogram = (metric: string, help: string) =>
    new Histogram({ name: `workqueue_${metric}`, help, labelNames, registers, buckets: QUEUE_BUCKETS }).labels(name);
  return {
    adds: counter('adds_total', 'Keys added.'),
    retries: counter('retries_total', 'Keys added again because their look failed.'),
    refused: counter(
      'refused_total',
      'Keys that were not added because the queue is full; the resync brings them back.',
    ),
    queueDuration: histogram('queue_duration_seconds', 'From the addition of a key until it is looked at.'),
    workDuration: histogram('work_duration_seconds', 'Time of one look.'),
    /** The levels are of this queue from now on. */
    watch(levels: QueueLevels) {
      queue = levels;
    },
    unwatch(levels: QueueLevels) {
      if (queue === levels) queue = undefined;
    },
  };
}

export type ReconcileMetrics = ReturnType<typeof createReconcileMetrics>;

export function createReconcileMetrics(registry: Registry, concurrency: number) {
  const registers = [registry];
  const labelNames = ['controller'] as const;
  const reconciles = new Counter({
    name: 'controller_runtime_reconcile_total',
    help: 'Looks at one Worker or WorkerPool, by result.',
    labelNames: ['controller', 'result'],
    registers,
  });
  const errors = new Counter({
    name: 'controller_runtime_reconcile_errors_total',
    help: 'Looks that failed.',
    ...{ labelNames, registers },
  });
  const seconds = new Histogram({
    name: 'controller_runtime_reconcile_time_seconds',
    help: 'Time of one look.',
    ...{ labelNames, registers, buckets: RECONCILE_BUCKETS },
  });
  const active = new Gauge({
    name: 'controller_runtime_active_workers',
    help: 'Looks under way.',
    ...{ labelNames, registers },
  });
  const most = new Gauge({
    name: 'controller_runtime_max_concurrent_reconciles',
    help: 'Looks under way at most (--reconcile-concurrency), both controllers together.',
    ...{ labelNames, registers },
  });
  const of = (controller: ControllerName) => {
    most.set({ controller }, concurrency);
    errors.inc({ controller }, 0);
    active.set({ controller }, 0);
    const totals = Object.fromEntries(
      RESULTS.map((result) => [result, reconciles.labels(controller, result)] as const),
    ) as Record<ReconcileResult, ReturnType<typeof reconciles.labels>>;
    for (const total of Object.values(totals)) total.inc(0);
    return {
      totals,
      errors: errors.labels(controller),
      seconds: seconds.labels(controller),
      active: active.labels(controller),
    };
  };
  return {
    worker: of('worker'),
    workerpool: of('workerpool'),
    commands: new Counter({
      name: 'carrierarr_monitor_commands_total',
      help: 'Commands the reconciler gave, by verb and by what the queue answered.',
      labelNames: ['verb', 'answer'],
      registers,
    }),
    conflicts: new Counter({
      name: 'carrierarr_monitor_write_conflicts_total',
      help: 'Writes that came too late because somebody else wrote first; the look is repeated.',
      registers,
    }),
    eventsDropped: new Counter({
      name: 'carrierarr_monitor_events_dropped_total',
      help: 'Events of resources that were not told because too many waited to be.',
      registers,
    }),
    halted: new Gauge({
      name: 'carrierarr_monitor_halted_groups',
      help: 'Pools (and the Workers outside pools, as one) whose repair is halted because too much went bad at once.',
      registers,
    }),
    orphans: new Gauge({
      name: 'carrierarr_monitor_orphans',
      help: 'Machines tagged as ours that no Worker owns.',
      registers,
    }),
    driftSeconds: new Histogram({
      name: 'carrierarr_monitor_drift_to_command_seconds',
      help: 'From a poll that saw a difference until the command against it was in the queue.',
      registers,
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    }),
  };
}
