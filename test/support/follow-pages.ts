/**
 * Pages, as somebody reads them: each command is executed as it stands, in order, and has to do and show what the page says.
 * What needs something that is not here says so in its first line (`# needs a cluster`; all of these are in docs/README.md).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, onTestFailed, onTestFinished, test } from 'vitest';
import { blocksOf, CLUSTER_GUIDES, commandsOf, DOCUMENTS, isCommands } from './documents.js';
import { type Moto, motoMissing, startMoto } from './moto.js';
import { WORKSPACE } from './programs.js';
import { type Given, Reader } from './reader.js';
import { startRedis, type TestRedis } from './redis.js';
import { launchUp, type Up } from './up.js';

const REGION = 'eu-central-1';
const readFile = (path: string) => readFileSync(join(WORKSPACE, path), 'utf8');

/** What a page expects its reader to have made, or to have in the cloud. */
interface Before {
  files?: (() => Promise<Record<string, string>>) | Record<string, string>;
  /** Commands. */
  typed?: string;
  cloud?: (aws: Moto) => Promise<unknown>;
}
const BEFORE: Readonly<Record<string, Before>> = {
  'docs/how-to/move-a-go-installation.md': { files: { 'control.sh': readFile('scripts/mock-worker.sh') } },
  'docs/how-to/backup-and-restore.md': { typed: 'carrierarr apply -f examples/mock-fleet.yaml' },
  'deploy/iam/README.md': {
    cloud: (aws) =>
      aws.cli('iam', 'create-role', '--role-name', 'carrierarr-runner', '--assume-role-policy-document', '{}'),
  },
  'docs/how-to/control-fargate.md': { cloud: makeCluster, files: async () => ({ 'config.sh': await fargateConfig() }) },
  'docs/how-to/control-ec2.md': { files: { 'config.sh': ourNetwork('EC2_WORKER', 'examples/ec2/config.sh') } },
};

/** An example of a configuration, without networks that are somebody's: every account has one of its own. */
function ourNetwork(prefix: string, path: string): string {
  const theirs = new RegExp(`^${prefix}_(SUBNETS|SECURITY_GROUPS)=.*$`, 'gm');
  return `${readFile(path).replaceAll(theirs, '')}\n${prefix}_POLL_S=0\n`;
}

async function makeCluster(aws: Moto): Promise<void> {
  const at = ['--region', REGION, 'ecs'] as const;
  await aws.cli(...at, 'create-cluster', '--cluster-name', 'workers');
  const containers = JSON.stringify([{ name: 'main', image: 'busybox', memory: 512 }]);
  const definition = ['--family', 'worker', '--network-mode', 'awsvpc', '--cpu', '512', '--memory', '1024'];
  await aws.cli(...at, 'register-task-definition', ...definition, '--container-definitions', containers);
}

async function fargateConfig(): Promise<string> {
  const query = ['--query', 'Subnets[0].SubnetId', '--output', 'text'];
  const subnet = await moto?.cli('--region', REGION, 'ec2', 'describe-subnets', ...query);
  return `${ourNetwork('FARGATE_WORKER', 'examples/fargate/config.sh')}FARGATE_WORKER_SUBNETS=${subnet}`;
}

/** Commands of a page that are executed. */
const commandsIn = (path: string) =>
  blocksOf(path)
    .filter((block) => isCommands(block) && block.needs === undefined)
    .flatMap(commandsOf);
const some = (path: string, pattern: RegExp) => commandsIn(path).some((command) => pattern.test(command));

let redis: TestRedis;
let up: Up;
let moto: Moto | undefined;
// A page of many commands on a busy machine.
const PAGE_MS = 300_000;

/** Declares a test for each of the pages that are `chosen` and have commands. Once for a file. */
export function followPages(chosen: (path: string) => boolean): void {
  const pages = DOCUMENTS.filter((path) => chosen(path) && commandsIn(path).length > 0).filter(
    (path) => !(CLUSTER_GUIDES as readonly string[]).includes(path),
  );
  beforeAll(async () => {
    redis = await startRedis({ appendOnly: true });
    // One after the other: what has started is ended also when the next does not start.
    if (motoMissing === undefined) moto = await startMoto();
    up = await launchUp({ redisUrl: redis.url });
  });
  afterAll(async () => {
    await Promise.all([up?.stop(), moto?.stop()]);
    await redis?.stop();
  });

  test.for(pages)('what %s says is so', { timeout: PAGE_MS }, async (path, { skip }) => {
    const { files = {}, typed, cloud } = BEFORE[path] ?? {};
    const usesAws = some(path, /\baws |-ec2-|-ecs-|AWS_/);
    if (usesAws && motoMissing !== undefined) skip(motoMissing);
    const env = usesAws && moto ? { ...moto.env, AWS_REGION: REGION, AWS_DEFAULT_REGION: REGION } : {};
    if (moto && cloud) await cloud(moto);
    const made = typeof files === 'function' ? await files() : files;
    const reader = await Reader.start({ files: made, env, ...(await whatRuns(path)) });
    onTestFinished(() => reader.close(), 60_000);
    onTestFailed(() => void process.stderr.write(`\n${reader.log()}\n`));
    await reader.follow(blocksOf(path), typed);
  });
}

/** Pages that start no gateway, runner or monitor look at ours. Those that do have a Redis, unless they start that, too. */
async function whatRuns(path: string): Promise<Pick<Given, 'ports'>> {
  if (!some(path, /^(npm ci && npm start|carrierarr (up|gateway|runner|monitor)\b)/))
    return { ports: { 8090: up.program.port, 50051: up.agentsPort, 6379: redis.port } };
  if (some(path, /^redis-server /)) return {};
  const own = await startRedis({ appendOnly: true });
  onTestFinished(() => own.stop());
  return { ports: { 6379: own.port } };
}
