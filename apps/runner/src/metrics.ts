/** What a runner counts. Durations in seconds, as Prometheus has them. */
import type { Outcome } from '@carrierarr/protocol';
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

const OUTCOMES: readonly Outcome[] = ['succeeded', 'failed', 'killed', 'timed-out', 'lost', 'rejected'];

export type RunnerMetrics = ReturnType<typeof createRunnerMetrics>;

/** Values that are looked up when somebody asks. */
export interface RunnerLevels {
  running: () => number;
  spoolBytes: () => number;
  appendsInFlight: () => number;
}

export function createRunnerMetrics(registry: Registry, levels: RunnerLevels) {
  const registers = [registry];
  const counter = (name: string, help: string) => new Counter({ name: `carrierarr_runner_${name}`, help, registers });
  const gauge = (name: string, help: string, level: () => number) =>
    new Gauge({
      ...{ name: `carrierarr_runner_${name}`, help, registers },
      collect() {
        this.set(level());
      },
    });
  const executions = new Counter({
    name: 'carrierarr_runner_executions_total',
    help: 'Executions that ended on this runner, by outcome.',
    labelNames: ['outcome'],
    registers,
  });
  for (const outcome of OUTCOMES) executions.inc({ outcome }, 0);
  const queueDepth = new Gauge({
    name: 'carrierarr_runner_queue_depth',
    help: 'Work of the whole installation: targets that wait, and commands that run. Scale runners on the sum.',
    labelNames: ['state'],
    registers,
  });
  return {
    executions,
    queueDepth,
    running: gauge('running', 'Executions that run on this runner now.', levels.running),
    startLatency: new Histogram({
      name: 'carrierarr_runner_start_latency_seconds',
      help: 'From the acceptance of a command to its start.',
      buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800],
      registers,
    }),
    lines: counter('lines_total', 'Lines read from scripts.'),
    bytes: counter('bytes_total', 'Bytes read from scripts.'),
    truncatedLines: counter('truncated_lines_total', 'Lines that were cut because they were too long.'),
    limitedLines: counter('limited_lines_total', 'Lines that were not kept because an execution wrote too much.'),
    redactions: counter('redactions_total', 'Secrets replaced in output.'),
    spoolBytes: gauge('spool_bytes', 'Output that Redis has not acknowledged.', levels.spoolBytes),
    pauses: counter('backpressure_pauses_total', 'Times a script was made to wait because the spool was full.'),
    appendsInFlight: gauge('appends_in_flight', 'Entries on their way to Redis.', levels.appendsInFlight),
    appendRetries: counter('append_retries_total', 'Entries that had to be sent again.'),
    lostEntries: counter('lost_entries_total', 'Entries that Redis lost and this runner no longer had.'),
    fenced: counter('fenced_total', 'Executions of this runner that others held for lost.'),
    reaped: counter('lost_reaped_total', 'Executions of dead runners that this runner declared lost.'),
    sweeperAdds: counter('sweeper_adds_total', 'Drain jobs added for targets that waited without one.'),
    renewalFailures: counter('renewal_failures_total', 'Lease renewals that failed.'),
    badJobs: counter(
      'bad_jobs_total',
      'Times that a job or a command was left where it is because only a newer version can read it.',
    ),
    escapedOutputs: counter('escaped_outputs_total', 'Executions whose output was still held open after they ended.'),
    trimmedBytes: counter(
      'retention_trimmed_bytes_total',
      'Bytes of history removed because of its total bound or age.',
    ),
  };
}
