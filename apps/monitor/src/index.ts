/** The monitor: watches the fleet, keeps its status, and brings it to the state its owners asked for. */
export { type MonitorConfig, monitorSchema, watchSchema } from './monitor-config.js';
export { validateAgentsConfig } from './agents/config.js';
export { createMonitor, type MonitorComponent, type MonitorOptions } from './monitor.js';
export { connectUrl } from './agents/amqp/config.js';
