/** What observing counts. Durations in seconds, as Prometheus has them. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

export type ObserveMetrics = ReturnType<typeof createObserveMetrics>;

export function createObserveMetrics(registry: Registry) {
  const registers = [registry];
  const ages = new Map<string, () => number | undefined>();
  const sourceAge = new Gauge({
    name: 'carrierarr_monitor_source_age_seconds',
    help: 'Time since the begin of the last complete poll of a source that was published. Absent before the first.',
    labelNames: ['source'],
    registers,
    collect() {
      this.reset();
      for (const [source, age] of ages) {
        const seconds = age();
        if (seconds !== undefined) this.set({ source }, seconds);
      }
    },
  });
  const pollErrors = new Counter({
    name: 'carrierarr_monitor_poll_errors_total',
    help: 'Polls that failed; they change nothing of what is known.',
    labelNames: ['source'],
    registers,
  });
  return {
    sourceAge,
    /** Shows a source's age from now on; `undefined` stands for no poll yet. Returns what ends that. */
    showAge(source: string, age: () => number | undefined): () => void {
      ages.set(source, age);
      // Prometheus sees no increase in a count that begins with the first failure.
      pollErrors.inc({ source }, 0);
      return () => void ages.delete(source);
    },
    pollSeconds: new Histogram({
      name: 'carrierarr_monitor_poll_seconds',
      help: 'How long polls take, failed ones too, without publishing.',
      labelNames: ['source'],
      buckets: [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300],
      registers,
    }),
    pollErrors,
    publishErrors: new Counter({
      name: 'carrierarr_monitor_publish_errors_total',
      help: 'Times that the result of a poll could not be published and was tried again.',
      labelNames: ['source'],
      registers,
    }),
    apiCalls: new Counter({
      name: 'carrierarr_monitor_api_calls_total',
      help: 'Calls of AWS APIs, each try of a repeated one.',
      labelNames: ['service', 'operation', 'region'],
      registers,
    }),
    apiWait: new Histogram({
      name: 'carrierarr_monitor_api_wait_seconds',
      help: "How long calls waited for this process' own budget, a quarter of what AWS allows an account.",
      labelNames: ['service', 'operation', 'region'],
      buckets: [0.001, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60],
      registers,
    }),
    workers: new Gauge({
      name: 'carrierarr_monitor_workers',
      help: 'Workers by source and state as last published; tombstones have the state they were left with.',
      labelNames: ['source', 'state'],
      registers,
    }),
    queueEvents: new Counter({
      name: 'carrierarr_monitor_queue_events_total',
      help: 'Events from the events queue, by kind; `malformed` ones are deleted like the others.',
      labelNames: ['kind'],
      registers,
    }),
    scriptTargetsSkipped: new Counter({
      name: 'carrierarr_monitor_script_targets_skipped_total',
      help: 'Targets that a poll did not ask for their status because the last command for it has not ended.',
      registers,
    }),
  };
}
