/** What it takes to run a program under the watchdog, to lead its output to a log, and to tell how it ended. */
export { deferred } from './deferred.js';
export { decideOutcome, type EndCause, type ProgramExit, signalOf, type Verdict } from './outcome.js';
export { type LineBlock, LineSplitter } from './output/lines.js';
export { Redactor } from './output/redact.js';
export { readSecrets } from './output/secrets.js';
export { type AppendAnswer, Spool, SpoolBudget } from './output/spool.js';
export { commandToken, type ExecutionFacts, programEnvironment } from './process/environment.js';
export { cannotExecute } from './process/executable.js';
export { PipeFolder } from './process/pipes.js';
export { ProgramRun } from './process/program-run.js';
export { HEARTBEAT_MS, WATCHDOG_ENDS_WITHIN_MS } from './process/watchdog.js';
