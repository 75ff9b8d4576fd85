/**
 * What to do about one Worker or one WorkerPool, and why: pure functions of what is wanted, what was seen and the
 * time. Nothing here reads a clock, draws a number or does I/O; apps/monitor feeds the views and carries out the plans.
 */
export * from './backoff.js';
export * from './conditions.js';
export * from './desired.js';
export * from './execution-view.js';
export * from './expectations.js';
export * from './halt.js';
export * from './observation-of.js';
export * from './others-work.js';
export * from './phases.js';
export * from './pool-plan.js';
export { isReady } from './pool-rollout.js';
export { ordinalOf } from './pool-scale.js';
export * from './schedule.js';
export * from './sight.js';
export * from './template-hash.js';
export * from './verbs.js';
export * from './worker-plan.js';
export * from './worker-view.js';
