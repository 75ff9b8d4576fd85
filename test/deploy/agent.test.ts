import { execFile, spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { runInNewContext } from 'node:vm';
import { agentSchema, validateAgentConfig } from '@carrierarr/agent';
import { loadConfig } from '@carrierarr/platform';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

const file = (name: string) => readFile(new URL(`../../deploy/agent/${name}`, import.meta.url), 'utf8');

/** Lines of an environment file. Those that are commented out are examples, and must be right as well. */
function variables(text: string): Record<string, string> {
  return Object.fromEntries(
    text.split('\n').flatMap((line) => {
      const found = /^#?([A-Z][A-Z0-9_]*)=(.*)$/.exec(line);
      return found === null ? [] : [[found[1] as string, found[2] as string]];
    }),
  );
}

/** Throws if the agent would not start with these. Files that they name are made up. */
async function check(env: Record<string, string>, argv: readonly string[] = []): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'carrierarr-deploy-'));
  try {
    const local: Record<string, string> = {};
    for (const [name, value] of Object.entries(env)) {
      local[name] = value;
      if (!name.endsWith('_FILE')) continue;
      local[name] = join(folder, name);
      await writeFile(local[name], name.startsWith('RABBITMQ') ? 'amqps://u:p@rabbit.example' : 'text');
    }
    const loaded = loadConfig({ program: 'test', summary: '', schema: agentSchema, argv, env: local });
    if (loaded.kind === 'config') validateAgentConfig(loaded.values);
  } finally {
    await rm(folder, { recursive: true });
  }
}

describe('the systemd unit', () => {
  const hasSystemd = spawnSync('systemd-analyze', ['--version']).status === 0;

  it.skipIf(!hasSystemd)('is one that systemd takes, and exposes little', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'carrierarr-unit-'));
    try {
      const path = join(folder, 'carrierarr-agent.service');
      // What it starts need not be on this machine.
      await writeFile(path, (await file('carrierarr-agent.service')).replace(/^ExecStart=.*$/m, 'ExecStart=/bin/true'));
      const run = promisify(execFile);
      const verified = await run('systemd-analyze', ['verify', '--man=no', path]);
      expect(verified.stderr.split('\n').filter((line) => line.includes('carrierarr-agent'))).toEqual([]);
      const args = ['security', '--offline=true', '--no-pager', path];
      const { stdout } = await run('systemd-analyze', args);
      const exposure = Number(/exposure level for \S+: (\d+\.\d)/.exec(stdout)?.[1]);
      expect(exposure).toBeLessThan(3);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('starts the agent with flags it knows', async () => {
    const line = /^ExecStart=(.*)$/m.exec(await file('carrierarr-agent.service'))?.[1]?.split(' ') ?? [];
    const at = line.findIndex((word) => word.endsWith('carrierarr-agent.mjs'));
    expect(at).toBeGreaterThan(0);
    await check({ CONTROL_PLANE_ADDR: 'control.example' }, line.slice(at + 1));
  });

  it('has settings that the agent takes', async () => {
    const env = variables(await file('agent.env'));
    expect(Object.keys(env).length).toBeGreaterThan(5);
    await check(env);
  });
});

describe('the polkit rules', () => {
  async function rule(
    restartable: string,
  ): Promise<(id: string, user: string, details?: Record<string, string>) => string> {
    const text = (await file('50-carrierarr-agent.rules')).replace('RESTARTABLE = []', `RESTARTABLE = ${restartable}`);
    type Rule = (action: { id: string; lookup(name: string): string | undefined }, subject: { user: string }) => string;
    const rules: Rule[] = [];
    const polkit = {
      Result: { YES: 'yes', NO: 'no', NOT_HANDLED: 'not handled' },
      addRule: (added: Rule) => rules.push(added),
    };
    runInNewContext(text, { polkit });
    return (id, user, details = {}) => rules[0]?.({ id, lookup: (name) => details[name] }, { user }) ?? 'none';
  }

  it("let the agent's user power off and restart named units, and nothing else", async () => {
    const decide = await rule('["ollama.service"]');
    const units = 'org.freedesktop.systemd1.manage-units';
    expect(decide('org.freedesktop.login1.power-off', 'carrierarr-agent')).toBe('yes');
    expect(decide('org.freedesktop.login1.reboot', 'carrierarr-agent')).toBe('yes');
    expect(decide(units, 'carrierarr-agent', { verb: 'restart', unit: 'ollama.service' })).toBe('yes');
    expect(decide(units, 'carrierarr-agent', { verb: 'stop', unit: 'ollama.service' })).toBe('no');
    expect(decide(units, 'carrierarr-agent', { verb: 'restart', unit: 'ssh.service' })).toBe('no');
    expect(decide('org.freedesktop.policykit.exec', 'carrierarr-agent')).toBe('no');
    expect(decide('org.freedesktop.login1.power-off', 'somebody')).toBe('not handled');
  });

  it('take the names of units as the flag does, with or without `.service`', async () => {
    const named = variables(await file('agent.env'))['CARRIERARR_ALLOW_RESTART_SERVICE']?.split(',') ?? [];
    expect(named).toEqual(['ollama']);
    const decide = await rule(JSON.stringify([...named, 'node.exporter', 'backup.timer', 'worker@1']));
    const restart = (unit: string) =>
      decide('org.freedesktop.systemd1.manage-units', 'carrierarr-agent', { verb: 'restart', unit });
    for (const unit of ['ollama.service', 'node.exporter.service', 'backup.timer', 'worker@1.service'])
      expect([unit, restart(unit)]).toEqual([unit, 'yes']);
    for (const unit of ['ollama.socket', 'ollama', 'backup.service', 'backup.timer.service', 'ssh.service'])
      expect([unit, restart(unit)]).toEqual([unit, 'no']);
  });

  it('let it restart nothing as they are', async () => {
    const decide = await rule('[]');
    const details = { verb: 'restart', unit: 'ollama.service' };
    expect(decide('org.freedesktop.systemd1.manage-units', 'carrierarr-agent', details)).toBe('no');
  });
});

describe('the user data', () => {
  it('is YAML that installs what there is, with settings that the agent takes', async () => {
    const text = await file('cloud-init.yaml');
    expect(text.startsWith('#cloud-config\n')).toBe(true);
    const data = parse(text) as {
      users: (string | { name: string })[];
      write_files: { path: string; content: string }[];
      runcmd: string[][];
    };
    expect(data.users[1]).toMatchObject({ name: 'carrierarr-agent' });
    const env = data.write_files.find(({ path }) => path === '/etc/carrierarr/agent.env');
    await check(variables(env?.content ?? ''));
    const lines = data.runcmd.map((words) => words.join(' '));
    for (const name of ['50-carrierarr-agent.rules', 'carrierarr-agent.service']) {
      expect(lines.some((line) => line.startsWith('install') && line.includes(name))).toBe(true);
      expect(await file(name)).not.toBe('');
    }
    expect(lines.at(-1)).toBe('systemctl enable --now carrierarr-agent');
  });
});

describe('the Fargate sidecar', () => {
  it('has flags and settings that the agent takes, and ends the task when told to shut down', async () => {
    const task = JSON.parse(await file('fargate-task.json')) as {
      volumes: { name: string }[];
      containerDefinitions: {
        name: string;
        essential: boolean;
        command?: string[];
        environment?: { name: string; value: string }[];
        secrets?: { name: string }[];
        mountPoints?: { sourceVolume: string; containerPath: string }[];
      }[];
    };
    const agent = task.containerDefinitions.find(({ name }) => name === 'carrierarr-agent');
    // The image's own program; these are its flags.
    const argv = agent?.command ?? [];
    // Its end is the task's end.
    expect(agent?.essential).toBe(true);
    expect(argv.join(' ')).toContain('--shutdown-command exit');
    expect(agent?.mountPoints?.[0]).toEqual({
      sourceVolume: task.volumes[0]?.name,
      containerPath: agentSchema.stateDir.default,
    });
    const env = Object.fromEntries((agent?.environment ?? []).map(({ name, value }) => [name, value]));
    for (const { name } of agent?.secrets ?? []) env[name] = 'text';
    await check(env, argv);
  });
});
