/** Who leads, as one monitor tells it. */
import { Counter, Gauge, type Registry } from 'prom-client';

export type ElectionMetrics = ReturnType<typeof createElectionMetrics>;

export function createElectionMetrics(registry: Registry) {
  const registers = [registry];
  return {
    leader: new Gauge({ name: 'carrierarr_monitor_leader', help: '1 while this monitor leads, else 0.', registers }),
    transitions: new Counter({
      name: 'carrierarr_monitor_leader_transitions_total',
      help: 'Times this monitor became the leader.',
      registers,
    }),
  };
}
