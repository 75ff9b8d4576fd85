/** What judging nodes counts. Only a leader judges: elsewhere the gauges are 0. */
import { LIVENESS_STATES } from '@carrierarr/protocol';
import { Counter, Gauge, type Registry } from 'prom-client';
import { NODE_EVENT_KINDS } from './plan.js';

export type NodesMetrics = ReturnType<typeof createNodesMetrics>;

export function createNodesMetrics(registry: Registry) {
  const registers = [registry];
  const nodes = new Gauge({
    name: 'carrierarr_monitor_nodes',
    help: 'Nodes by whether they live, as the leader judges them.',
    labelNames: ['liveness'],
    registers,
  });
  const clear = () => {
    for (const liveness of LIVENESS_STATES) nodes.set({ liveness }, 0);
  };
  clear();
  const events = new Counter({
    name: 'carrierarr_monitor_node_events_total',
    help: 'What happened to nodes: joined, stale, dead, back, left.',
    labelNames: ['kind'],
    registers,
  });
  // Prometheus sees no increase in a count that begins with the first event: many nodes that die at once would raise no alert.
  for (const kind of NODE_EVENT_KINDS) events.inc({ kind }, 0);
  return {
    nodes,
    /** This monitor leads no more. */
    clear,
    events,
    ended: new Counter({
      name: 'carrierarr_monitor_dead_nodes_ended_total',
      help: 'Commands given to end dead nodes (--auto-terminate-dead), by verb and by what the queue answered; `shared`: not given, as the target has other machines.',
      labelNames: ['verb', 'answer'],
      registers,
    }),
    massDeath: new Gauge({
      name: 'carrierarr_monitor_mass_death',
      help: '1 while so many nodes died at once that none of them is ended.',
      registers,
    }),
    forgotten: new Counter({
      name: 'carrierarr_monitor_nodes_forgotten_total',
      help: 'Nodes that were forgotten after a day of silence.',
      registers,
    }),
    lookErrors: new Counter({
      name: 'carrierarr_monitor_node_look_errors_total',
      help: 'Looks at all nodes that failed, as while Redis is away.',
      registers,
    }),
  };
}
