/** The `carrierarr` command as a library, for tests and generated documents. */
export { Connection, type ConnectionOptions, type IdentifiedCommand } from './client/connection.js';
export { Resume, type Admitted, type Hole, type Start } from './client/resume.js';
export { Watch, type Step } from './client/watch.js';
export { clientSchema, type GatewayAccess } from './client/settings.js';
export { GatewayFailure } from './client/unreachable.js';
export { runCommandLine } from './command-line.js';
export { getSchema } from './commands/get.js';
export { logsSchema } from './commands/logs.js';
export { psSchema } from './commands/ps.js';
export { upSchema } from './commands/up.js';
export { splitRunArguments } from './commands/run-arguments.js';
export { runSchema } from './commands/run.js';
export type { Host } from './host.js';
export { age, table } from './terminal/table.js';
export { visible, visibleJson, visibleLine } from './terminal/visible.js';
