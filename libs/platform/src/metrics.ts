/** A Prometheus registry with what every program shows about itself. */
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';

export { Registry } from 'prom-client';

export interface MetricsOptions {
  readonly program: string;
  readonly version: string;
  /** CPU, memory, event loop and the like. Off for all but one program of a process, which share them. */
  readonly hasProcessMetrics?: boolean;
}

export function createMetrics({ program, version, hasProcessMetrics = true }: MetricsOptions): Registry {
  const registry = new Registry();
  if (hasProcessMetrics) collectDefaultMetrics({ register: registry });
  new Gauge({
    name: 'carrierarr_build_info',
    help: 'Always 1; its labels say what is running.',
    labelNames: ['program', 'version', 'node'],
    registers: [registry],
  }).set({ program, version, node: process.versions.node }, 1);
  return registry;
}
