/** The runner: takes commands from the queue, has them executed, writes its output and outcome to Redis. */
export { executionSchema, type RunnerConfig, runnerSchema, validateRunnerConfig } from './config.js';
export { createRunner, type RunnerComponent, type RunnerOptions } from './runner.js';
