/** What a monitor counts of agents. */
import { Counter, Gauge, type Registry } from 'prom-client';

/** Why something of an agent was not taken. */
export const REFUSALS = [
  'token',
  'connections',
  'streams',
  'calls',
  'name',
  'nodes',
  'messages',
  'bytes',
  'invalid',
  'fenced',
  'foreign',
  'slow',
  'unavailable',
] as const;
export type Refusal = (typeof REFUSALS)[number];

export type AgentMetrics = ReturnType<typeof createAgentMetrics>;

/** Values that are looked up when somebody asks. */
export interface AgentLevels {
  streams: () => number;
  mailOpen: () => number;
  resultsWaiting: () => number;
}

export function createAgentMetrics(registry: Registry, levels: AgentLevels) {
  const registers = [registry];
  const named = (name: string, help: string) => ({ name: `carrierarr_agents_${name}`, help, registers });
  const counter = (name: string, help: string) => new Counter(named(name, help));
  const gauge = (name: string, help: string, level: () => number) =>
    new Gauge({
      ...named(name, help),
      collect() {
        this.set(level());
      },
    });
  const refused = new Counter({
    ...named('refused_total', 'What agents sent or asked for and did not get, by reason.'),
    labelNames: ['reason'],
  });
  for (const reason of REFUSALS) refused.inc({ reason }, 0);
  return {
    refused,
    streams: gauge('streams', 'Streams of agents that are open on this monitor.', levels.streams),
    mailOpen: gauge('commands_open', 'Commands under way on agents of this monitor.', levels.mailOpen),
    resultsWaiting: gauge('results_waiting', 'Results that are not written yet: Redis is away.', levels.resultsWaiting),
    messages: new Counter({
      ...named('messages_total', 'Messages that came over streams, by kind.'),
      labelNames: ['kind'],
    }),
    registrations: counter('registrations_total', 'Registrations by gRPC.'),
    heartbeats: counter('heartbeats_total', 'Heartbeats by gRPC.'),
    takeovers: counter('takeovers_total', 'Streams that ended because their node opened a newer one.'),
    outputBytes: counter('output_bytes_total', 'Bytes of output that came from agents.'),
    outputAcks: new Counter({
      ...named('output_acks_total', 'Entries of output, by what was answered.'),
      labelNames: ['verdict'],
    }),
    commandsSent: counter('commands_sent_total', 'Commands that were written to streams, repetitions too.'),
    cancels: new Counter({
      ...named('cancels_total', 'Commands whose end was asked of their agent, by reason.'),
      labelNames: ['reason'],
    }),
    results: new Counter({
      ...named('results_total', 'Results of commands: taken, repeated, or late (nobody waited for them any more).'),
      labelNames: ['kind'],
    }),
    resultsDropped: counter('results_dropped_total', 'Results given up because Redis was away for too long.'),
    mailDropped: counter('mail_dropped_total', 'Commands dropped because their runner was gone.'),
    logLines: counter('log_lines_total', 'Lines that agents logged of themselves.'),
    logLinesDropped: counter('log_lines_dropped_total', 'Such lines that were too many.'),
    tlsReloads: counter('tls_reloads_total', 'Times that renewed certificates were taken over.'),
  };
}
