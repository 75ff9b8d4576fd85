import { mkdtemp, rm, writeFile, mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeGateway } from './fake-gateway.js';
import { FakeHost } from './fake-host.js';

let gateway: FakeGateway;
let host: FakeHost;

beforeEach(async () => {
  gateway = await new FakeGateway().start();
  host = new FakeHost({ CARRIERARR_URL: gateway.url });
});
afterEach(() => gateway.stop());

describe('carrierarr run --wait', () => {
  it('shows both streams where they belong and exits with the code of the script', async () => {
    gateway.onCommand = (execution) => {
      gateway.started(execution);
      gateway.lines(execution, 'stdout', ['one', 'two']);
      gateway.lines(execution, 'stderr', ['oops']);
      gateway.result(execution, 7);
    };
    expect(await host.run('run', '--timeout', '10m', 'w1', 'train', '--epochs', '3', '--wait')).toBe(7);
    expect(host.stdout.text).toBe('one\ntwo\n');
    expect(host.stderr.text).toBe('oops\n');
    expect(gateway.received.at(-1)).toMatchObject({
      command: 'train',
      args: ['--epochs', '3'],
      target: 'w1',
      timeout_seconds: 600,
    });
  });

  it('loses and doubles nothing while the gateway restarts, and runs the command once', async () => {
    let isAnswerLost = true;
    gateway.swallowAnswer = () => isAnswerLost;
    gateway.onCommand = (execution) => {
      gateway.lines(execution, 'stdout', ['one']);
      gateway.lines(execution, 'stdout', ['two'], { deliver: false });
    };
    const exitCode = host.run('run', 'w1', 'start', '--wait');
    await vi.waitFor(() => expect(gateway.executions.size).toBe(1));
    const [execution] = gateway.executions.values();
    if (!execution) throw new Error('no execution');
    isAnswerLost = false;
    await gateway.stop();
    gateway.lines(execution, 'stdout', ['three']);
    await gateway.start();
    await vi.waitFor(() => expect(host.stdout.text).toBe('one\ntwo\nthree\n'), { timeout: 10_000 });
    gateway.result(execution, 0);
    expect(await exitCode).toBe(0);
    expect(gateway.executions.size).toBe(1);
    expect(host.stderr.text).toMatch(/Connecting again/);
  });

  it('submits elsewhere when the gateway is shutting down', async () => {
    gateway.onSubmit = ({ id }) => {
      if (gateway.connections > 1) return false;
      gateway.fail('draining', id);
      return true;
    };
    gateway.onCommand = (execution) => gateway.result(execution, 0);
    expect(await host.run('run', 'w1', 'start', '--wait')).toBe(0);
    expect(gateway.connections).toBe(2);
  });

  it('exits with 126 when there is no script, and with 125 for other refusals, saying how to repeat it safely', async () => {
    for (const [code, exitCode, text] of [
      ['no_script', 126, /No control script/],
      ['unavailable', 125, /--id cli-/],
    ] as const) {
      gateway.onSubmit = ({ id }) => {
        gateway.fail(code, id);
        return true;
      };
      expect(await host.run('run', 'w1', 'start', '--wait')).toBe(exitCode);
      expect(host.stderr.text).toMatch(text);
    }
  });

  it('shows the first execution of an id from its beginning', async () => {
    gateway.onCommand = (execution) => {
      gateway.started(execution);
      gateway.lines(execution, 'stdout', ['only once']);
      gateway.result(execution, 3);
    };
    expect(await host.run('run', '--id', 'deploy-7', 'w1', 'deploy', '--wait')).toBe(3);
    gateway.lines({ id: 'later', target: 'w1' }, 'stdout', ['of another']);
    const again = new FakeHost(host.env);
    expect(await again.run('run', '--id', 'deploy-7', 'w1', 'deploy', '--wait')).toBe(3);
    expect(again.stdout.text).toBe('only once\n');
    expect(gateway.executions.size).toBe(1);
  });

  it('learns how a command ended whose result has left the history', async () => {
    const exitCode = host.run('run', 'w1', 'flood', '--wait');
    await vi.waitFor(() => expect(gateway.executions.size).toBe(1));
    const [execution] = gateway.executions.values();
    if (!execution) throw new Error('no execution');
    gateway.lines(execution, 'stdout', ['gone'], { deliver: false });
    gateway.result(execution, 4, 'failed', { deliver: false });
    gateway.trim('w1', 2);
    gateway.drop();
    expect(await exitCode).toBe(4);
    expect(host.stderr.text).toMatch(/Lines 1 to 2 of w1 are missing/);
  });

  it('shows notices of the gateway on standard error', async () => {
    const exitCode = host.run('run', 'w1', 'start', '--wait');
    await vi.waitFor(() => expect(gateway.executions.size).toBe(1));
    gateway.broadcast({ type: 'degraded', reason: 'Redis is away' });
    gateway.broadcast({ type: 'restored' });
    const [execution] = gateway.executions.values();
    if (execution) gateway.result(execution, 0);
    expect(await exitCode).toBe(0);
    expect(host.stderr.text).toMatch(/degraded \(Redis is away\)[^]*well again/);
    expect(host.stdout.text).toBe('');
  });

  it('does not send what would drive the terminal to a terminal, and sends it to a file', async () => {
    gateway.onCommand = (execution) => {
      gateway.lines(execution, 'stdout', ['\x1b[31mred\x1b[0m \x1b]0;title\x07']);
      gateway.result(execution, 0);
    };
    const person = new FakeHost(host.env).terminal();
    await person.run('run', 'w1', 'a', '--wait');
    await host.run('run', 'w1', 'b', '--wait');
    expect(person.stdout.text).toBe('\x1b[31mred\x1b[0m \\x1b]0;title\\x07\n');
    expect(host.stdout.text).toBe('\x1b[31mred\x1b[0m \x1b]0;title\x07\n');
  });
});

describe('Ctrl-C during run --wait', () => {
  async function running(of: FakeHost) {
    const exitCode = of.run('run', 'w1', 'train', '--wait');
    gateway.onCommand = (execution) => gateway.lines(execution, 'stdout', ['working']);
    await vi.waitFor(() => expect(of.stdout.text).toBe('working\n'));
    const [id = ''] = gateway.executions.keys();
    return { exitCode, id };
  }

  it('only stops watching when nobody can be asked', async () => {
    const { exitCode, id } = await running(host);
    host.signal('SIGINT');
    expect(await exitCode).toBe(130);
    expect(host.stderr.text).toContain(`carrierarr kill ${id}`);
    expect(gateway.executions.get(id)?.state).not.toBe('ended');
  });

  it('asks a person, kills on their word, shows the end and exits with 130', async () => {
    const { exitCode, id } = await running(host.terminal());
    host.signal('SIGINT');
    await vi.waitFor(() => expect(host.stderr.text).toContain('Kill `train` on w1, or only stop watching?'));
    host.stdin.write('k\n');
    expect(await exitCode).toBe(130);
    expect(gateway.executions.get(id)?.outcome).toBe('killed');
    expect(host.stderr.text).toContain('was killed');
  });

  it('leaves the command alone unless the person says kill', async () => {
    const { exitCode, id } = await running(host.terminal());
    host.signal('SIGINT');
    host.stdin.write('\n');
    expect(await exitCode).toBe(130);
    expect(gateway.executions.get(id)?.state).not.toBe('ended');
  });

  it('a second time leaves at once', async () => {
    const { exitCode } = await running(host.terminal());
    host.signal('SIGINT');
    host.signal('SIGINT');
    expect(await exitCode).toBe(130);
    expect(gateway.requests.filter((each) => each.startsWith('DELETE'))).toEqual([]);
  });
});

describe('carrierarr run', () => {
  it('prints the id of the execution and goes', async () => {
    expect(await host.run('run', 'worker 1', 'start')).toBe(0);
    expect(host.stdout.text).toBe(`${[...gateway.executions.keys()][0]}\n`);
  });

  it('refuses what cannot be meant with 125, because 2 may be the script’s', async () => {
    expect(await host.run('run', 'w1')).toBe(125);
    expect(await host.run('run', 'w1', 'start', '--timeout', '5m')).toBe(125);
    expect(await host.run('run', '--timeuot', '5m', 'w1', 'start')).toBe(125);
    expect(await host.run('run', 'w*', 'start')).toBe(125);
    expect(host.stderr.text).toMatch(
      /Expected TARGET COMMAND[^]*`--timeout` after the command[^]*`--timeuot`.*`--timeout`[^]*TARGET cannot be `w\*`/,
    );
    expect(gateway.requests).toEqual([]);
  });

  it('says where it looked for a gateway and what to do', async () => {
    await gateway.stop();
    expect(await host.run('run', 'w1', 'start')).toBe(125);
    expect(host.stderr.text).toMatch(
      `Cannot reach a gateway at ${gateway.url}: nothing listens there. Start one with \`carrierarr up\``,
    );
  });
});

describe('carrierarr logs', () => {
  const execution = { id: 'x1', target: 'gpu-1' };

  it('ends where the log ended, with the streams apart', async () => {
    gateway.lines(execution, 'stdout', ['a', 'b', 'c']);
    gateway.lines(execution, 'stderr', ['d']);
    expect(await host.run('logs', 'gpu-1', '--tail', '3')).toBe(0);
    expect(host.stdout.text).toBe('b\nc\n');
    expect(host.stderr.text).toBe('d\n');
  });

  it('ends when there is nothing, and when --since leaves nothing', async () => {
    expect(await host.run('logs', 'gpu-1')).toBe(0);
    expect(host.stderr.text).toMatch(/No target matches `gpu-1`/);
    gateway.lines(execution, 'stdout', ['a']);
    expect(await host.run('logs', 'gpu-1', '--since', '2999-01-01')).toBe(0);
    expect(host.stdout.text).toBe('');
  });

  it('begins with an execution', async () => {
    gateway.lines(execution, 'stdout', ['before']);
    const known = gateway.accept('gpu-1', { command: 'start', id: 'i' });
    gateway.started(known);
    gateway.lines(known, 'stdout', ['mine']);
    expect(await host.run('logs', 'gpu-1', '--since', known.id)).toBe(0);
    expect(host.stdout.text).toBe('mine\n');
    expect(host.stderr.text).toMatch(/started start/);
  });

  it('names the target of each line of a pattern', async () => {
    gateway.lines(execution, 'stdout', ['a']);
    gateway.lines({ id: 'x2', target: 'gpu-2' }, 'stdout', ['b']);
    gateway.lines({ id: 'x3', target: 'cpu-1' }, 'stdout', ['c']);
    expect(await host.run('logs', 'gpu-*')).toBe(0);
    expect(host.stdout.text.split('\n').toSorted()).toEqual(['', 'gpu-1 | a', 'gpu-2 | b']);
  });

  it('follows over restarts of the gateway until Ctrl-C', async () => {
    gateway.lines(execution, 'stdout', ['a']);
    const exitCode = host.run('logs', '-f', 'gpu-1');
    await vi.waitFor(() => expect(host.stdout.text).toBe('a\n'));
    gateway.lines(execution, 'stdout', ['b'], { deliver: false });
    gateway.drop();
    await vi.waitFor(() => expect(host.stdout.text).toBe('a\nb\n'));
    host.signal('SIGINT');
    expect(await exitCode).toBe(130);
  });

  it('gives each message as a JSON line', async () => {
    gateway.lines(execution, 'stdout', ['a', 'b']);
    expect(await host.run('logs', 'gpu-1', '-o', 'json')).toBe(0);
    expect(JSON.parse(host.stdout.text)).toMatchObject({
      type: 'lines',
      target: 'gpu-1',
      offset: 1,
      lines: ['a', 'b'],
    });
  });
});

describe('carrierarr ps, get and kill', () => {
  it('list what runs and waits, and what there was', async () => {
    const first = gateway.accept('w1', { command: 'start', args: ['evil\x1b[2J'], id: '1' });
    gateway.started(first);
    const second = gateway.accept('w2', { command: 'stop', id: '2' });
    expect(await host.run('ps')).toBe(0);
    expect(host.stdout.text).toMatch(/^EXECUTION +TARGET[^]*w1 +start evil\\x1b\[2J +running[^]*w2 +stop +queued/);
    gateway.result(first, 2);
    const other = new FakeHost(host.env);
    expect(await other.run('get', 'executions', '-o', 'json', '--limit', '1')).toBe(0);
    expect(JSON.parse(other.stdout.text)).toMatchObject({ target: 'w1', exit_code: 2 });
    expect(await other.run('get', 'targets')).toBe(0);
    expect(other.stdout.text).toMatch(/w1 +idle/);
    gateway.started(second);
    const both = new FakeHost(host.env);
    expect(await both.run('get', 'targets', 'w1', 'w2', '-o', 'name')).toBe(0);
    expect(both.stdout.text.trim().split('\n').toSorted()).toEqual(['w1', 'w2']);
    expect(await other.run('get', 'pods')).toBe(2);
  });

  it('end an execution by its id, and say so when nothing runs on a target', async () => {
    const execution = gateway.accept('w1', { command: 'start', id: '1' });
    expect(await host.run('kill', execution.id)).toBe(0);
    expect(gateway.executions.get(execution.id)?.outcome).toBe('killed');
    expect(await host.run('kill', 'w1')).toBe(125);
    expect(host.stderr.text).toMatch(/nothing running or waiting/);
  });
});

describe('the gateway and the token', () => {
  it('come from the configuration file, the environment and flags, in this order', async () => {
    gateway.token = 's3cret';
    const folder = await mkdtemp(join(tmpdir(), 'carrierarr-cli-'));
    try {
      await mkdir(join(folder, 'carrierarr'));
      await writeFile(join(folder, 'token'), 's3cret\n');
      await writeFile(
        join(folder, 'carrierarr', 'config.yaml'),
        `url: ${gateway.url}\ntokenFile: ${join(folder, 'token')}\n`,
      );
      expect(await new FakeHost({ XDG_CONFIG_HOME: folder, CARRIERARR_REDIS_URL: 'redis://elsewhere' }).run('ps')).toBe(
        0,
      );
      expect(await new FakeHost({ XDG_CONFIG_HOME: folder, CARRIERARR_TOKEN: 'wrong' }).run('ps')).toBe(125);
      const flags = ['ps', '--token-file', join(folder, 'token')];
      expect(await new FakeHost({ XDG_CONFIG_HOME: folder, CARRIERARR_TOKEN: 'wrong' }).run(...flags)).toBe(0);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('are not shown where the token is one that no header can hold', async () => {
    expect(await host.run('ps', '--token', 'gpu-1 s3cret\ngpu-2 s3cret')).not.toBe(0);
    expect(host.stderr.text).toMatch(/one token, of printable ASCII without spaces/);
    expect(host.stderr.text).not.toContain('s3cret');
  });

  it('refuse with advice and without a second try', async () => {
    gateway.token = 's3cret';
    expect(await host.run('run', 'w1', 'start', '--wait')).toBe(125);
    expect(host.stderr.text).toMatch(/wants a token. Give one with --token-file, CARRIERARR_TOKEN_FILE/);
    expect(gateway.connections).toBe(1);
  });
});

describe('carrierarr', () => {
  it('explains itself', async () => {
    expect(await host.run('--help')).toBe(0);
    expect(host.stdout.text).toMatch(/Usage: carrierarr COMMAND[^]*up [^]*run [^]*logs /);
    expect(await host.run()).toBe(2);
    for (const verb of ['run', 'logs', 'ps', 'kill', 'get']) {
      const each = new FakeHost();
      expect(await each.run(verb, '--help')).toBe(0);
      expect(each.stdout.text).toMatch(new RegExp(`Usage: carrierarr ${verb} \\[flags\\]`));
    }
  });

  it('tells its version', async () => {
    expect(await host.run('version')).toBe(0);
    expect(host.stdout.text).toMatch(/^carrierarr \d+\.\d+\.\d+\n$/);
  });

  it.each([
    ['lgos', 'logs'],
    ['gatway', 'gateway'],
    ['exec', 'run'],
    ['verison', 'version'],
  ])('takes `%s` for `%s` misspelt', async (typed, meant) => {
    expect(await host.run(typed)).toBe(2);
    expect(host.stderr.text).toContain(`Did you mean \`${meant}\`?`);
  });
});
