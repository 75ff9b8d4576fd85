/**
 * `node test/bench/program-load.mjs`: CPU time until a program serves, as it is shipped (few files) and as it is compiled (one file for each
 * module, packages as they are installed). In turn, medians of seven. Prints Markdown. Needs `npm run build`.
 */
import { Child, cpuSeconds, startRedis } from './processes.mjs';

const ROUNDS = 7;
const redis = await startRedis();
const base = ['--redis-url', redis.url, '--log-format', 'json'];
const programs = {
  gateway: { args: ['--addr', '127.0.0.1:0'], serves: 'gateway listens' },
  runner: { args: ['--ops-addr', '127.0.0.1:0', '--without-script'], serves: 'runner takes commands' },
  monitor: { args: ['--ops-addr', '127.0.0.1:0', '--grpc-addr', '127.0.0.1:0'], serves: 'agents are served' },
};

async function cpuUntilItServes(folder, name) {
  const { args, serves } = programs[name];
  const child = new Child(process.execPath, [`apps/cli/${folder}/main.js`, name, ...args, ...base]);
  while ((await child.next()).msg !== serves);
  const seconds = cpuSeconds(child.pid);
  await child.stop();
  return seconds;
}

const median = (values) => values.toSorted((a, b) => a - b)[(values.length - 1) / 2];

process.stdout.write(
  '| CPU until it serves | a file for each module | few files | ratio |\n| --- | --- | --- | --- |\n',
);
for (const name of Object.keys(programs)) {
  const taken = { compiled: [], dist: [] };
  for (let round = 0; round < ROUNDS; round++)
    for (const [folder, list] of Object.entries(taken)) list.push(await cpuUntilItServes(folder, name));
  const [many, few] = [median(taken.compiled), median(taken.dist)];
  process.stdout.write(`| ${name} | ${many.toFixed(2)} s | ${few.toFixed(2)} s | ${(few / many).toFixed(2)} |\n`);
}
await redis.child.stop();
process.exit(0);
