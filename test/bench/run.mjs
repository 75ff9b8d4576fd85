/**
 * `npm run bench`: runs every scenario on every system, interleaved (A, B, C, A, B, C, ...) so that what else
 * the machine does hits all alike, prints Markdown and leaves everything measured in bench-results/.
 *
 *   --quick                  a few seconds per run, one round
 *   --rounds N               default 3
 *   --only hot,steady        scenarios
 *   --systems uws-bare,...   systems
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { measure } from './measure.mjs';
import { buildTools, resultsDir, startRedis } from './processes.mjs';
import { goalTable, scenarioTable } from './report.mjs';
import { goals, scenarios } from './scenarios.mjs';
import { systems } from './systems.mjs';

const { values: flags } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    only: { type: 'string' },
    systems: { type: 'string' },
  },
});

/** @template {{ name: string }} T @param {T[]} all @param {string | undefined} names @param {string} flag @returns {T[]} */
const pick = (all, names, flag) => {
  if (!names) return all;
  return names.split(',').map((name) => {
    const found = all.find((one) => one.name === name);
    if (!found)
      throw new Error(`Expected ${flag} to name some of ${all.map((one) => one.name).join(', ')}, got \`${name}\``);
    return found;
  });
};

const chosen = pick(scenarios, flags.only, '--only').map((one) => (flags.quick ? { ...one, ...one.quick } : one));
const candidates = pick(systems, flags.systems, '--systems');
const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 3));
if (!Number.isInteger(rounds) || rounds < 1)
  throw new Error(`Expected --rounds to be a number from 1, got \`${flags.rounds}\``);

const tools = buildTools();
const redis = await startRedis();
/** @type {import('./report.mjs').Run[]} */
const runs = [];

for (const scenario of chosen) {
  const taking = candidates.filter((one) => one.kinds.includes(scenario.kind) && !scenario.without?.includes(one.name));
  for (let round = 1; round <= rounds; round++) {
    for (const system of taking) {
      process.stderr.write(`${scenario.name} ${system.name} ${round}/${rounds}\n`);
      const run = { scenario: scenario.name, system: system.name, round };
      try {
        runs.push({ ...run, metrics: await measure({ tools, redis, system, scenario }) });
      } catch (error) {
        runs.push({ ...run, error: error instanceof Error ? error.message : String(error) });
      }
    }
  }
  console.log(scenarioTable(scenario, runs));
}
console.log(goalTable(goals, runs));

mkdirSync(resultsDir, { recursive: true });
const file = join(resultsDir, `${new Date().toISOString().replaceAll(':', '-')}.json`);
const machine = { node: process.version, cpu: cpus()[0]?.model, cores: cpus().length };
writeFileSync(file, JSON.stringify({ command: process.argv.slice(2), machine, runs }, null, 2));
process.stderr.write(`all values: ${file}\n`);
await redis.child.stop();
// A socket of the last round may still linger.
process.exit(0);
