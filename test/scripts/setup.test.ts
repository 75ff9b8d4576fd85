import { execFile, execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

// setup.sh sees only the programs put into one folder, each of which writes down how it was called.

const script = fileURLToPath(new URL('../../scripts/setup.sh', import.meta.url));
const bash = execFileSync('/bin/sh', ['-c', 'command -v bash'], { encoding: 'utf8' }).trim();

let home: string;
let bin: string;
let policy: string;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'setup-'));
  bin = join(home, 'bin');
  policy = join(home, 'policy-rc.d');
  mkdirSync(bin);
  for (const name of ['sed', 'mv', 'rm', 'chmod', 'cp', 'cksum', 'mkdir']) {
    symlinkSync(execFileSync('/bin/sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim(), join(bin, name));
  }
  program('node', 'echo v20.20.2');
  program('rabbitmq-server');
  program('promtool');
  program('curl');
  awsTools();
  mkdirSync(join(deployToolsFolder(), 'node_modules'), { recursive: true });
  user(1000);
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

function program(name: string, body = '', folder = bin): void {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\necho "${name} $*" >>'${home}/calls'\n${body}\n`);
  chmodSync(path, 0o755);
}

/** Puts the environment for the tests in place, where setup.sh looks for it. */
function awsTools(): void {
  const folder = join(awsToolsFolder(), 'bin');
  mkdirSync(folder, { recursive: true });
  program('python', '', folder);
}

function cachedFolder(name: string, namedAfter: string): string {
  const path = fileURLToPath(new URL(`../support/${namedAfter}`, import.meta.url));
  const [checksum] = execFileSync('cksum', [path], { encoding: 'utf8' }).split(' ');
  return join(home, '.cache', 'carrierarr', `${name}-${checksum}`);
}
const awsToolsFolder = (): string => cachedFolder('aws-tools', 'moto-requirements.txt');
const deployToolsFolder = (): string => cachedFolder('deploy-tools', 'deploy-tools/package-lock.json');

const user = (id: number) => program('id', `echo ${id}`);
const redis = (version = '7.0.15') => program('redis-server', `echo "Redis server v=${version} sha=0:0 bits=64"`);

function calls(): string[] {
  return existsSync(join(home, 'calls')) ? readFileSync(join(home, 'calls'), 'utf8').trimEnd().split('\n') : [];
}

function setup(mode?: string): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const env = { PATH: bin, HOME: home, SETUP_POLICY_RC_D: policy, SETUP_RABBITMQ_PROGRAMS: join(home, 'rabbitmq') };
    execFile(bash, mode === undefined ? [script] : [script, mode], { env }, (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr });
    });
  });
}

const silent = { code: 0, stdout: '', stderr: '' };

describe('with all present', () => {
  test.each(['run', 'test', 'bench'])('%s says nothing and runs nothing but two version checks', async (mode) => {
    for (const name of ['apt-get', 'apt-cache', 'docker', 'brew', 'dnf', 'sudo', 'chromium', 'cc', 'websocketd']) {
      program(name, 'exit 1');
    }
    user(0);
    redis();
    expect(await setup(mode)).toEqual(silent);
    expect(calls()).toEqual(['node --version', 'redis-server --version']);
  });

  test('the mode is run unless given', async () => {
    redis();
    expect(await setup()).toEqual(silent);
  });

  test('valkey-server will do, also beside an old redis-server', async () => {
    redis('6.2.14');
    program('valkey-server', 'echo "Valkey server v=8.1.1 sha=00000000:0 malloc=jemalloc"');
    expect(await setup('run')).toEqual(silent);
  });
});

describe('with something missing and no right to install it', () => {
  test('apt-get: the exact line, and nothing is installed', async () => {
    program('apt-get');
    program('apt-cache');
    const { code, stdout, stderr } = await setup('run');
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain(
      '\n  sudo apt-get update && sudo apt-get install -y --no-install-recommends redis-server\n',
    );
    expect(calls().filter((call) => call.startsWith('apt-get'))).toEqual([]);
  });

  test('apt-get: Valkey where the packaged Redis is too old', async () => {
    program('apt-get');
    program('apt-cache', `case $2 in redis-server) v=5:6.0.16-1;; *) v=8.1.1-1;; esac; echo "  Candidate: $v"`);
    expect((await setup('run')).stderr).toContain('--no-install-recommends valkey-server\n');
  });

  test('apt-get: where to get a newer Redis if nothing packaged will do', async () => {
    program('apt-get');
    program('apt-cache', `case $2 in redis-server) v=5:6.0.16-1;; *) v='(none)';; esac; echo "  Candidate: $v"`);
    const { code, stderr } = await setup('run');
    expect(code).toBe(1);
    expect(stderr).toContain('is 6.0.16-1; newer packages: https://redis.io/');
    expect(stderr).not.toContain('apt-get install');
  });

  test.each([
    ['brew', 'brew install redis && brew install --cask google-chrome'],
    ['dnf', 'sudo dnf install -y valkey chromium'],
  ])('%s: %s', async (installer, line) => {
    program(installer);
    const { code, stderr } = await setup('test');
    // A Mac that runs this test may have its browser in /Applications, where no PATH hides it.
    const lines = [line, line.replace(' && brew install --cask google-chrome', '')];
    expect(code).toBe(1);
    expect(lines).toContain(
      stderr
        .split('\n')
        .find((text) => text.startsWith('  ') && text.includes('install'))
        ?.trim(),
    );
    expect(calls().filter((call) => call.startsWith(installer))).toEqual([]);
  });

  test('an old Redis counts as missing', async () => {
    redis('6.2.14');
    const { code, stderr } = await setup('run');
    expect(code).toBe(1);
    expect(stderr).toContain('redis-server or valkey-server, 7 or newer');
  });

  test('the tests want curl, without which what documents say cannot be tried', async () => {
    rmSync(join(bin, 'curl'));
    redis();
    program('chromium');
    program('apt-get');
    program('apt-cache');
    const { code, stderr } = await setup('test');
    expect(code).toBe(1);
    expect(stderr).toContain('--no-install-recommends curl\n');
  });

  test('bench names the compiler and websocketd', async () => {
    redis();
    program('apt-get');
    program('apt-cache');
    expect((await setup('bench')).stderr).toContain('--no-install-recommends gcc libc6-dev websocketd\n');
  });

  test('Docker stands in for Redis, and it says so', async () => {
    program('docker');
    const { code, stderr } = await setup('run');
    expect(code).toBe(0);
    expect(stderr).toMatch(/embedded Redis will run through Docker\.\n$/);
  });

  test('a Docker that does not answer is no help', async () => {
    program('docker', 'exit 1');
    expect((await setup('run')).code).toBe(1);
  });
});

describe('as root with apt-get', () => {
  const candidates = `case $2 in redis-server) echo '  Candidate: 5:7.0.15-1';; *) echo '  Candidate: 1.0-1';; esac`;

  /** An apt-get whose install puts redis-server in place, after asking whether its service may start. */
  function aptGet(): void {
    program('redis-server', 'echo "Redis server v=7.0.15"', home);
    program(
      'apt-get',
      `case "$*" in *install*)
        '${policy}' redis-server start; echo "policy answered $?" >>'${home}/calls'
        cp '${home}/redis-server' '${bin}/redis-server';;
      esac`,
    );
    program('apt-cache', candidates);
    user(0);
  }

  test('installs once, starts no service, then has nothing to do', async () => {
    aptGet();
    expect(await setup('run')).toMatchObject({ code: 0, stdout: '' });
    expect(calls().filter((call) => /^apt-get|^policy/.test(call))).toEqual([
      expect.stringMatching(/ update$/),
      expect.stringMatching(/ install -y --no-install-recommends redis-server$/),
      'policy answered 101',
    ]);
    expect(existsSync(policy)).toBe(false);

    rmSync(join(home, 'calls'));
    expect(await setup('run')).toEqual(silent);
    expect(calls()).toEqual(['node --version', 'redis-server --version']);
  });

  test('puts a policy that allowed services back', async () => {
    aptGet();
    program('policy-rc.d', 'exit 0', home);
    const before = readFileSync(policy, 'utf8');
    expect((await setup('run')).code).toBe(0);
    expect(calls()).toContain('policy answered 101');
    expect(readFileSync(policy, 'utf8')).toBe(before);
  });

  test('shows what a failed apt-get said, puts the policy back and names the line', async () => {
    program('apt-get', 'case "$*" in *install*) echo "E: no space left"; exit 100;; esac');
    program('apt-cache', candidates);
    user(0);
    program('policy-rc.d', 'exit 0', home);
    const before = readFileSync(policy, 'utf8');
    const { code, stderr } = await setup('run');
    expect(code).toBe(1);
    expect(stderr).toContain('E: no space left');
    expect(stderr).toContain('\n  apt-get update && apt-get install -y --no-install-recommends redis-server\n');
    expect(readFileSync(policy, 'utf8')).toBe(before);
  });
});

describe('the tools for AWS', () => {
  /** A python3 that makes environments, with a pip that ends with this code. */
  function python(pipCode = 0): void {
    program('python3', `case "$*" in "-m venv "*) mkdir -p "$3/bin"; cp '${home}/pip' "$3/bin/python";; esac`);
    program('pip', `[ ${pipCode} = 0 ] || { echo 'no network'; exit ${pipCode}; }`, home);
  }

  beforeEach(() => {
    rmSync(awsToolsFolder(), { recursive: true });
    redis();
    program('chromium');
  });

  test('are made once, by anybody who has Python, from pinned versions', async () => {
    python();
    const { code, stdout, stderr } = await setup('test');
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
    expect(stderr).toBe(`Installing moto and the AWS CLI for the tests into ${awsToolsFolder()}\n`);
    expect(calls().find((call) => call.startsWith('pip '))).toMatch(/ -r .*moto-requirements\.txt$/);
    expect(readdirSync(join(home, '.cache', 'carrierarr')).toSorted()).toEqual(
      [awsToolsFolder(), deployToolsFolder()].map((folder) => basename(folder)),
    );

    rmSync(join(home, 'calls'));
    expect(await setup('test')).toEqual(silent);
    expect(calls()).toEqual(['node --version', 'redis-server --version']);
  });

  test('are nothing to run and bench', async () => {
    program('cc');
    program('websocketd');
    expect(await setup('run')).toEqual(silent);
    expect(await setup('bench')).toEqual(silent);
  });

  test('are gone without where there is no Python, and it says so', async () => {
    program('python3', 'exit 1');
    const { code, stderr } = await setup('test');
    expect(code).toBe(0);
    expect(stderr).toMatch(/^No python3 .* the tests that pretend to be AWS will be skipped\.\n$/);
  });

  test('are gone without where pip fails, and leave nothing half made', async () => {
    python(1);
    const { code, stderr } = await setup('test');
    expect(code).toBe(0);
    expect(stderr).toContain('no network');
    expect(stderr).toContain('will be skipped');
    expect(readdirSync(join(home, '.cache', 'carrierarr'))).toEqual([basename(deployToolsFolder())]);
  });

  test('must be there where what is missing is installed: as root with apt-get', async () => {
    python(1);
    program('apt-get');
    program('apt-cache');
    user(0);
    const { code, stderr } = await setup('test');
    expect(code).toBe(1);
    expect(stderr).not.toContain('skipped');
  });

  test('as root with apt-get the missing part of Python is installed', async () => {
    program('python3', 'exit 1');
    python();
    program('python-part', readFileSync(join(bin, 'python3'), 'utf8'), home);
    program('python3', 'exit 1');
    program('apt-get', `case "$*" in *install*) cp '${home}/python-part' '${bin}/python3';; esac`);
    program('apt-cache');
    user(0);
    expect(await setup('test')).toMatchObject({ code: 0 });
    expect(calls().filter((call) => /^apt-get.* install /.test(call))).toEqual([
      expect.stringMatching(/ --no-install-recommends python3-venv$/),
    ]);
    expect(existsSync(awsToolsFolder())).toBe(true);
  });
});

describe('the tools for the chart', () => {
  beforeEach(() => {
    rmSync(deployToolsFolder(), { recursive: true });
    redis();
    program('chromium');
  });
  /** An npm that ends with this code; `npm ci --prefix FOLDER`. */
  const npm = (code = 0) =>
    program('npm', `[ ${code} = 0 ] || { echo 'no network'; exit ${code}; }\nmkdir "$3/node_modules"`);

  test('are made once, by anybody, from a lock file', async () => {
    npm();
    const { code, stdout, stderr } = await setup('test');
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
    expect(stderr).toBe(`Installing what the tests of the Helm chart need into ${deployToolsFolder()}\n`);
    expect(calls().find((call) => call.startsWith('npm '))).toMatch(/^npm ci .*--ignore-scripts/);
    expect(calls().at(-1)).toMatch(/^node .*unpack\.mjs /);
    expect(existsSync(join(deployToolsFolder(), '.npmrc'))).toBe(true);

    rmSync(join(home, 'calls'));
    expect(await setup('test')).toEqual(silent);
    expect(calls()).toEqual(['node --version', 'redis-server --version']);
  });

  test('are gone without where npm fails, and leave nothing half made', async () => {
    npm(1);
    const { code, stderr } = await setup('test');
    expect(code).toBe(0);
    expect(stderr).toContain('no network');
    expect(stderr).toContain('The tests of the Helm chart will be skipped.');
    expect(readdirSync(join(home, '.cache', 'carrierarr'))).toEqual([basename(awsToolsFolder())]);
  });

  test('must be there where what is missing is installed: as root with apt-get', async () => {
    npm(1);
    program('apt-get');
    program('apt-cache');
    user(0);
    const { code, stderr } = await setup('test');
    expect(code).toBe(1);
    expect(stderr).not.toContain('skipped');
  });
});

describe('RabbitMQ', () => {
  beforeEach(() => {
    rmSync(join(bin, 'rabbitmq-server'));
    redis();
    program('chromium');
  });

  test('is gone without, and the line that installs it is told', async () => {
    program('apt-get');
    program('apt-cache');
    const { code, stderr } = await setup('test');
    expect(code).toBe(0);
    expect(stderr).toContain('the tests of RabbitMQ will be skipped');
    expect(stderr).toContain(
      '\n  sudo apt-get update && sudo apt-get install -y --no-install-recommends rabbitmq-server\n',
    );
    expect(calls().filter((call) => call.startsWith('apt-get'))).toEqual([]);
  });

  test('Docker stands in for it, and it says so', async () => {
    program('docker');
    const { code, stderr } = await setup('test');
    expect(code).toBe(0);
    expect(stderr).toBe('No rabbitmq-server found: the tests of RabbitMQ will run it through Docker.\n');
  });

  test('is found where Debian hides it from users, and is nothing to run and bench', async () => {
    mkdirSync(join(home, 'rabbitmq'));
    program('rabbitmq-server', '', join(home, 'rabbitmq'));
    expect(await setup('test')).toEqual(silent);
    rmSync(join(home, 'rabbitmq'), { recursive: true });
    expect(await setup('run')).toEqual(silent);
  });

  test('is installed as root with apt-get, and its service is not started', async () => {
    program('rabbitmq-program', '', home);
    program(
      'apt-get',
      `case "$*" in *install*)
        '${policy}' rabbitmq-server start; echo "policy answered $?" >>'${home}/calls'
        cp '${home}/rabbitmq-program' '${bin}/rabbitmq-server';;
      esac`,
    );
    program('apt-cache', "echo '  Candidate: 3.10.8-1'");
    user(0);
    expect(await setup('test')).toMatchObject({ code: 0 });
    expect(calls().filter((call) => /^apt-get.* install |^policy/.test(call))).toEqual([
      expect.stringMatching(/ --no-install-recommends rabbitmq-server$/),
      'policy answered 101',
    ]);
  });
});

describe('promtool', () => {
  beforeEach(() => {
    rmSync(join(bin, 'promtool'));
    redis();
    program('chromium');
  });

  test.each([
    ['apt-get', 'sudo apt-get update && sudo apt-get install -y --no-install-recommends prometheus'],
    ['brew', 'brew install prometheus'],
    ['dnf', 'https://prometheus.io/download/'],
  ])('is gone without, and with %s how to get it is told', async (installer, line) => {
    program(installer);
    program('apt-cache');
    const { code, stderr } = await setup('test');
    expect(code).toBe(0);
    expect(stderr).toBe(
      `No promtool found: the tests of the alerts will be skipped. To run them, install it:\n  ${line}\n`,
    );
    expect(calls().filter((call) => call.startsWith(installer))).toEqual([]);
  });

  test('is nothing to run and bench', async () => {
    program('cc');
    program('websocketd');
    expect(await setup('run')).toEqual(silent);
    expect(await setup('bench')).toEqual(silent);
  });

  test('is installed as root with apt-get, and no Prometheus is started, now or with the machine', async () => {
    program('promtool-program', '', home);
    program(
      'apt-get',
      `case "$*" in *install*)
        '${policy}' prometheus start; echo "policy answered $?" >>'${home}/calls'
        cp '${home}/promtool-program' '${bin}/promtool';;
      esac`,
    );
    program('apt-cache', "echo '  Candidate: 2.42.0+ds-5'");
    program('systemctl');
    user(0);
    expect(await setup('test')).toMatchObject({ code: 0 });
    expect(calls().filter((call) => /^apt-get.* install |^policy|^systemctl/.test(call))).toEqual([
      expect.stringMatching(/ --no-install-recommends prometheus$/),
      'policy answered 101',
      'systemctl disable prometheus',
    ]);
  });
});

describe('what is gone without elsewhere', () => {
  test.each([
    ['rabbitmq-server', 'RabbitMQ (rabbitmq-server)'],
    ['promtool', 'promtool (of Prometheus)'],
    ['curl', 'curl'],
  ])('must be there where what is missing is installed: %s', async (missing, told) => {
    rmSync(join(bin, missing));
    redis();
    program('chromium');
    program('apt-get');
    program('apt-cache');
    user(0);
    const { code, stderr } = await setup('test');
    expect(code).toBe(1);
    expect(stderr).toContain(`- ${told}`);
  });
});

describe('Node.js', () => {
  test.each(['v18.20.8', 'v20.18.3'])('%s is too old, and the message says what is needed', async (version) => {
    redis();
    program('node', `echo ${version}`);
    const { code, stderr } = await setup('run');
    expect(code).toBe(1);
    expect(stderr).toContain(`needs Node.js 20.19 or newer, found ${version}.`);
  });

  test('22 needs a C library that its WebSocket binary can load', async () => {
    redis();
    program('node', 'echo v22.11.0');
    program('getconf', 'echo glibc 2.36');
    expect((await setup('run')).stderr).toContain('found glibc 2.36. Use Node.js 20');
    program('getconf', 'echo glibc 2.39');
    expect(await setup('run')).toEqual(silent);
  });
});

test('an unknown mode is wrong use', async () => {
  const { code, stderr } = await setup('play');
  expect(code).toBe(64);
  expect(stderr).toContain('got "play"');
});
