/** The runner: takes commands from the queue, executes the control script, writes its output and outcome to Redis. */
export { executionSchema, type RunnerConfig, runnerSchema } from './config.js';
export { createRunner, type RunnerComponent, type RunnerOptions } from './runner.js';
