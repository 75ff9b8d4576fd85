export * from './command-store.js';
export { defineScripts, type RedisConnection } from './connection.js';
export { DrainQueue } from './drain-queue.js';
export * from './execution-history.js';
export type { HistoryBounds } from './lua/target-script.js';
export * from './output-log.js';
export * from './runner-registry.js';
export * from './store-format.js';
export { readWorkers } from './worker-status-store.js';
