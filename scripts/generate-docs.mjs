/**
 * Writes the documents of docs/reference, and parts of the chart, that say what the code says: `npm run docs`. With `--check` it writes nothing
 * and fails if one of them is not what it should be; a test does the same.
 *
 * Runs on the built packages. A test that imports it gets the sources instead (the condition "source").
 */
import { readFile, writeFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import {
  applySchema,
  clientSchema,
  deleteSchema,
  describeSchema,
  diffSchema,
  doctorSchema,
  exportSchema,
  getSchema,
  importSchema,
  logsSchema,
  planSchema,
  psSchema,
  runSchema,
  scaleSchema,
  upSchema,
} from '@carrierarr/cli';
import { agentSchema, loadAgent } from '@carrierarr/agent';
import { createGateway, gatewaySchema } from '@carrierarr/gateway';
import { createMonitor, monitorSchema } from '@carrierarr/monitor';
import {
  configReference,
  createLogger,
  createMetrics,
  loadConfig,
  Readiness,
  redisSettings,
  systemClock,
  version,
} from '@carrierarr/platform';
import {
  agentReference,
  asyncApiDocument,
  errorReference,
  Keys,
  messageReference,
  openApiDocument,
  PARTITIONS,
} from '@carrierarr/protocol';
import { createRunner, runnerSchema } from '@carrierarr/runner';
import { chartFiles } from './chart/chart-files.mjs';

const ROOT = new URL('../', import.meta.url);
const PROTO = 'libs/protocol/proto/ec2agent/v1/agent.proto';

/** Every generated document: its text by its path in the repository. */
export async function generatedDocs() {
  return new Map([
    ['docs/reference/asyncapi.json', json(asyncApiDocument(version()))],
    ['docs/reference/openapi.json', json(openApiDocument(version()))],
    ['docs/reference/messages.md', messageReference()],
    ['docs/reference/agent-protocol.md', agentReference(await readFile(new URL(PROTO, ROOT), 'utf8'))],
    ['docs/reference/errors.md', errorReference()],
    ['docs/reference/configuration.md', configuration()],
    ['docs/reference/metrics.md', await metrics()],
    ['docs/reference/redis-keys.md', await redisKeys()],
    ...chartFiles(),
  ]);
}

function json(value) {
  return `${JSON.stringify(value, null, 2)}\n`;
}

function configuration() {
  return configReference([
    {
      program: 'carrierarr up',
      summary: 'Gateway, runner and monitor in one process, with a Redis of its own: everything on one machine.',
      schema: upSchema,
    },
    { program: 'carrierarr gateway', summary: 'A gateway: clients connect to it.', schema: gatewaySchema },
    { program: 'carrierarr runner', summary: 'A runner: it executes the control script.', schema: runnerSchema },
    {
      program: 'carrierarr monitor',
      summary: 'A monitor: it watches the workers and keeps them as their owners asked.',
      schema: monitorSchema,
    },
    {
      program: 'carrierarr agent',
      summary:
        'The agent of a worker machine, also as `carrierarr-agent`: announces it, says how it is, and carries out commands there.',
      schema: agentSchema,
    },
    {
      program: 'carrierarr doctor',
      summary: 'Looks at all that an installation rests on, and says what to do about what is wrong.',
      schema: doctorSchema,
    },
    {
      program: 'carrierarr run',
      summary:
        "Runs a command on a target. These flags come before the target; what follows the command is the script's.",
      schema: runSchema,
    },
    { program: 'carrierarr logs', summary: 'Shows the output of targets.', schema: logsSchema },
    { program: 'carrierarr ps', summary: 'Lists the commands that run and wait.', schema: psSchema },
    { program: 'carrierarr kill', summary: 'Ends an execution, or what runs on a target.', schema: clientSchema },
    {
      program: 'carrierarr get',
      summary: 'Lists workers, pools, what monitors see, executions or targets.',
      schema: getSchema,
    },
    { program: 'carrierarr apply', summary: 'Makes workers and pools be as files say.', schema: applySchema },
    { program: 'carrierarr diff', summary: 'Shows what applying files would change.', schema: diffSchema },
    { program: 'carrierarr plan', summary: 'Says what the reconciler would do next.', schema: planSchema },
    { program: 'carrierarr export', summary: 'Writes down all workers and pools, as a backup.', schema: exportSchema },
    { program: 'carrierarr import', summary: 'Brings back what was exported.', schema: importSchema },
    { program: 'carrierarr describe', summary: 'Tells why a worker or pool is as it is.', schema: describeSchema },
    { program: 'carrierarr scale', summary: 'Changes how many workers a pool has.', schema: scaleSchema },
    { program: 'carrierarr delete', summary: 'Deletes workers and pools.', schema: deleteSchema },
    { program: 'carrierarr pause', summary: 'Has the reconciler leave a worker or pool alone.', schema: clientSchema },
    { program: 'carrierarr resume', summary: 'Ends a pause.', schema: clientSchema },
  ]);
}

// --- metrics ---------------------------------------------------------------------------------------------------------

/** Asks the programs themselves: all are put together, never started, and their registries read. */
async function metrics() {
  const logger = createLogger({ program: 'docs', level: 'silent', format: 'json' });
  const parts = [
    { title: 'Gateway', create: createGateway, config: defaultsOf(gatewaySchema) },
    { title: 'Runner', create: createRunner, config: { ...defaultsOf(runnerSchema), script: 'control-script' } },
    { title: 'Monitor', create: createMonitor, config: { ...defaultsOf(monitorSchema), rabbitmqUrl: 'amqp://broker' } },
    { title: 'Agent', create: (await loadAgent()).createAgent, config: defaultsOf(agentSchema) },
  ];
  const sections = [];
  for (const { title, create, config } of parts) {
    const registry = createMetrics({ program: 'docs', version: version(), hasProcessMetrics: false });
    const common = new Set(registry.getMetricsAsArray().map(({ name }) => name));
    const program = create({
      ...{ config, redisSettings: 'redisUrl' in config ? redisSettings(config) : undefined, logger, metrics: registry },
      ...{ readiness: new Readiness(), clock: systemClock },
    });
    const own = registry.getMetricsAsArray().filter(({ name }) => !common.has(name));
    sections.push(metricTable(title, own));
    await program.stop();
  }
  const shared = createMetrics({ program: 'docs', version: version(), hasProcessMetrics: false });
  return `# Metrics

Generated from the programs; do not edit. A gateway serves them at \`/metrics\` of its address (of \`--ops-addr\`, if that is set), runners and
monitors at \`/metrics\` of \`--ops-addr\`, an agent at that of \`--health-port\`, in the format of Prometheus. Beside these there are the usual ones of a Node.js process (\`process_*\`,
\`nodejs_*\`).

${[...sections, metricTable('All', shared.getMetricsAsArray())].join('\n')}`;
}

function metricTable(title, found) {
  const rows = found
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, type, labelNames, help }) => {
      const labels = (labelNames ?? []).filter((label) => label !== 'le' && label !== 'quantile');
      return `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${cell(help)} |`;
    });
  return `## ${title}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n${rows.join('\n')}\n`;
}

function defaultsOf(schema) {
  const loaded = loadConfig({ program: 'docs', summary: '', schema, argv: [], env: {} });
  return loaded.values;
}

// --- Redis keys ------------------------------------------------------------------------------------------------------

const SECTION = /^ {2}\/\/ --- (.+?) -+$/;
const METHOD = /^ {2}\/\*\* (?<about>[^\n]+) \*\/\n {2}(?<name>\w+)\((?<parameters>[^)]*)\): string \{$/;
const EXAMPLES = {
  ...{ target: 'worker-1', partition: 7, subject: 'alice', clientId: 'id-1', gatewayId: 'gateway-1' },
  id: '01kanhfj7e5xkz3d9q4r8m2v6t-07',
  ...{ kind: 'Worker', name: 'worker-1', part: 'status', channel: 'grpc' },
  execution: '01kanhfj7e5xkz3d9q4r8m2v6t-07',
  node: 'i-0123456789abcdef0',
};

/** Names from the code itself, called with example arguments; meanings from its docstrings. */
async function redisKeys() {
  const source = await readFile(new URL('libs/protocol/src/keys.ts', ROOT), 'utf8');
  const body = source.slice(source.indexOf('export class Keys'));
  const keys = new Keys('carrierarr');
  const lines = body.split('\n');
  const rows = [];
  const undocumented = new Set(Object.getOwnPropertyNames(Keys.prototype));
  // Not names that stand in Redis.
  for (const name of ['constructor', 'at', 'of', 'control', 'nodes', 'executionPrefix', 'ofEachSlot'])
    undocumented.delete(name);
  for (const [index, line] of lines.entries()) {
    const section = SECTION.exec(line)?.[1];
    if (section) rows.push(`\n## For ${section}\n\n| example | what it holds |\n|---|---|`);
    const method = METHOD.exec(lines.slice(index, index + 2).join('\n'))?.groups;
    if (!method || !undocumented.delete(method.name)) continue;
    const names = method.parameters.split(',').flatMap((parameter) => parameter.split(':')[0]?.trim() || []);
    const args = method.name === 'runner' ? ['runner-1'] : names.map((name) => EXAMPLES[name]);
    if (args.includes(undefined)) throw new Error(`Expected an example for each parameter of Keys.${method.name}.`);
    rows.push(`| \`${keys[method.name](...args)}\` | ${cell(method.about.replace(/\{@link ([\w.]+)\}/g, '`$1`'))} |`);
  }
  if (undocumented.size > 0) {
    throw new Error(
      `Expected a docstring of one line on each key in keys.ts, got none on ${[...undocumented].join(', ')}.`,
    );
  }
  return `# Redis keys and channels

Generated from \`libs/protocol/src/keys.ts\`; do not edit. Part of no interface: read them for diagnosis, write none.

\`carrierarr\` is the prefix (\`--redis-key-prefix\`). Targets are spread over ${PARTITIONS} partitions; the number in braces is the
partition, and the hash tag that keeps all of it in one slot of Redis Cluster. Channels are of sharded pub/sub
(\`SSUBSCRIBE\`). Beside these there are the keys of BullMQ, which begin with \`${keys.bullPrefix}:\`.
${rows.join('\n')}
`;
}

function cell(text) {
  return text.replaceAll('|', '\\|');
}

// --- command line ----------------------------------------------------------------------------------------------------

async function main() {
  const isCheck = process.argv.includes('--check');
  let stale = 0;
  for (const [path, text] of await generatedDocs()) {
    const url = new URL(path, ROOT);
    const before = await readFile(url, 'utf8').catch(() => '');
    if (before === text) continue;
    stale += 1;
    console.log(isCheck ? `${path} is not what the code says: run \`npm run docs\`` : `wrote ${path}`);
    if (!isCheck) await writeFile(url, text);
  }
  if (isCheck && stale > 0) process.exitCode = 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main();
