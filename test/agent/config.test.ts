import { agentSchema, validateAgentConfig } from '@carrierarr/agent';
import { loadConfig } from '@carrierarr/platform';
import { describe, expect, it } from 'vitest';

function config(argv: readonly string[], env: Record<string, string> = {}) {
  const loaded = loadConfig({ program: 'carrierarr-agent', summary: '', schema: agentSchema, argv, env });
  if (loaded.kind !== 'config') throw new Error('Expected a configuration.');
  validateAgentConfig(loaded.values);
  return loaded.values;
}

describe('the settings of an agent', () => {
  it('are those that existing installations start with', () => {
    const old = ['-control-plane', 'control.example:50051', '-type', 'gpu-worker', '-health-port', '8081'];
    old.push('-instance-id', 'i-1', '-nebula-ip', '10.0.0.1', '-public-ip', '1.2.3.4', '-region', 'r', '-az', 'a');
    old.push('-rabbitmq-url', 'amqp://u:p@rabbit.example:5672/agents');
    expect(config(old)).toMatchObject({
      ...{ controlPlane: [{ host: 'control.example', port: 50_051 }], type: 'gpu-worker', healthPort: 8081 },
      ...{ instanceId: 'i-1', nebulaIp: '10.0.0.1', publicIp: '1.2.3.4', region: 'r', az: 'a' },
      rabbitmqUrl: 'amqp://u:p@rabbit.example:5672/agents',
    });
  });

  it('come from the variables that existing installations set, and flags win', () => {
    const env = { CONTROL_PLANE_ADDR: 'one.example,two.example:1', RABBITMQ_URL: 'amqp://rabbit.example' };
    expect(config([], env)).toMatchObject({
      controlPlane: [
        { host: 'one.example', port: 50_051 },
        { host: 'two.example', port: 1 },
      ],
      ...{ rabbitmqUrl: 'amqp://rabbit.example', healthPort: 8080, allowExec: [], allowRestartService: [] },
      ...{ idleShutdown: 0, commandsMax: 8, healthHost: '127.0.0.1' },
    });
    expect(config(['-control-plane', 'flag.example'], env).controlPlane).toEqual([
      { host: 'flag.example', port: 50_051 },
    ]);
  });

  it.each([
    [[], /at least one of `--control-plane`/],
    [['-control-plane', ':50051'], /a host and port such as control\.example:50051/],
    [['-control-plane', 'a', '--tls-cert', 'x'], /`--tls-cert` and `--tls-key` together/],
    [['-control-plane', 'a', '--token', 'secret'], /Expected TLS for a token that is sent to a:50051/],
    [['-control-plane', 'a', '--services', 'x=ftp:y'], /a check such as k3s=systemd:k3s/],
    [['-control-plane', 'a', '--allow-restart-service', 'a b'], /the name of a systemd unit/],
    [['-control-plane', 'a', '-type', 'tpu'], /one of gpu-worker, cpu-worker, lighthouse/],
  ])('are refused with what to do: %j', (argv, problem) => {
    expect(() => config(argv)).toThrow(problem);
  });

  it.each([
    ['on this machine', ['-control-plane', '127.0.0.1:50051', '--token', 'secret']],
    ['under TLS', ['-control-plane', 'a', '--token', 'secret', '--tls']],
    ['if that was said in so many words', ['-control-plane', 'a', '--token', 'secret', '--insecure-token']],
  ])('may have a token %s', (_where, argv) => {
    expect(config(argv).token).toBe('secret');
  });

  it.each(['gpu-1 hunter2', 'hunter2\nhunter3', '\ufeffhunter2', 'hünter2'])(
    'takes no token that a header cannot hold, and does not show it: %j',
    (token) => {
      const read = () => config(['-control-plane', 'a', '--tls', '--token', token]);
      expect(read).toThrow(
        /`--token` .* to be one token, of printable ASCII without spaces, got a value that is not shown/,
      );
      expect(read).not.toThrow(/nter/);
    },
  );
});
