/** What an agent counts. */
import { Counter, Gauge, type Registry } from 'prom-client';

export type AgentMetrics = ReturnType<typeof createAgentMetrics>;

/** Values that are looked up when somebody asks. */
export interface AgentLevels {
  running: () => number;
  idleSeconds: () => number;
  undelivered: () => number;
  spoolBytes: () => number;
}

export function createAgentMetrics(registry: Registry, levels: AgentLevels) {
  const registers = [registry];
  const name = (rest: string) => `carrierarr_agent_${rest}`;
  const counter = (rest: string, help: string) => new Counter({ name: name(rest), help, registers });
  const gauge = (rest: string, help: string, level: () => number) =>
    new Gauge({
      ...{ name: name(rest), help, registers },
      collect() {
        this.set(level());
      },
    });
  const commands = new Counter({
    name: name('commands_total'),
    help: 'Commands, by what became of them.',
    labelNames: ['end'],
    registers,
  });
  return {
    commands,
    connected: new Gauge({ name: name('connected'), help: '1 while a stream to a control plane is open.', registers }),
    rabbitmqConnected: new Gauge({
      name: name('rabbitmq_connected'),
      help: '1 while registered at RabbitMQ.',
      registers,
    }),
    unroutableRegistrations: counter(
      'unroutable_registrations_total',
      'Registrations that no queue of RabbitMQ took; they are sent again.',
    ),
    reconnects: counter('reconnects_total', 'Connections to a control plane that ended or failed.'),
    skippedStatuses: counter('skipped_statuses_total', 'Statuses left out because the connection took nothing.'),
    repeated: counter('repeated_commands_total', 'Commands that were sent again and did not run again.'),
    lines: counter('lines_total', 'Lines that commands wrote.'),
    truncatedLines: counter(
      'truncated_lines_total',
      'Lines that were cut, or left out because a command wrote too much.',
    ),
    redactions: counter('redactions_total', 'Secrets replaced in output.'),
    appendRetries: counter('append_retries_total', 'Entries of output that had to be sent again.'),
    pauses: counter('backpressure_pauses_total', 'Times a program was made to wait because its output was not taken.'),
    droppedResults: counter('dropped_results_total', 'Results dropped before they were delivered, to keep the bounds.'),
    interruptions: counter('interruption_notices_total', 'Notices that the instance will be taken away.'),
    running: gauge('running', 'Commands that run now.', levels.running),
    idleSeconds: gauge('idle_seconds', 'How long the node has been idle.', levels.idleSeconds),
    undelivered: gauge('undelivered_results', 'Results that no control plane has taken yet.', levels.undelivered),
    spoolBytes: gauge('spool_bytes', 'Output that no control plane has taken yet.', levels.spoolBytes),
  };
}
