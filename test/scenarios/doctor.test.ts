/** `carrierarr doctor`, built, looks at a whole installation that works; and knows every command that it uses of Redis. */
import { Keys } from '@carrierarr/protocol';
import { expect, onTestFinished, test } from 'vitest';
import { commandsUsed } from '../../apps/cli/src/doctor/redis/commands-used.js';
import { FakeAws } from '../support/fake-aws/server.js';
import { Installation } from '../support/installation.js';
import { startProgram } from '../support/programs.js';
import { freePort } from '../support/redis.js';

/** What the doctor, the test and connecting themselves use. */
const OTHERS = new Set(['acl', 'client', 'hello', 'auth', 'select', 'command', 'config', 'quit', 'zmscore']);

test('doctor finds nothing that fails in an installation that works, and asks for all permissions that it needs', async () => {
  const it = await Installation.start({ gateways: 1, runners: 2, monitors: 1 });
  const client = await it.newClient('alice', { targets: '*' });
  await client.submit('worker-1', 'write', 3);
  await it.verdict('before the doctor');
  const flags = ['--redis-url', it.redis.url, '--url', it.gateway(0).url, '--idle-seconds', '1'];
  const doctor = startProgram({ name: 'doctor', args: ['doctor', ...flags] });
  expect(await doctor.ended).toMatchObject({ code: 0 });
  expect(doctor.stdout()).toMatch(/^ok {4}runners {14}2 runners: /m);
  expect(doctor.stdout()).toMatch(/^ok {4}monitors {13}monitor-\d+ leads\.$/m);
  expect(doctor.stdout()).toMatch(/\n\d+ ok, \d+ warn, 0 fail, \d+ skip\n$/);

  const stats = await it.redis.client().info('commandstats');
  const counted = [...stats.matchAll(/^cmdstat_([a-z]+)[|:]/gm)].map((match) => match[1] ?? '');
  const known = new Set(commandsUsed(new Keys('carrierarr')).map(([command]) => command.toLowerCase()));
  expect(counted.filter((command) => !known.has(command) && !OTHERS.has(command))).toEqual([]);
  expect(counted.length).toBeGreaterThan(30);
});

test('doctor, built, asks AWS and RabbitMQ', async () => {
  const aws = await FakeAws.start();
  onTestFinished(() => aws.stop());
  aws.world.putInstance({ id: 'i-1', state: 'running', tags: {} });
  const flags = [
    '--ec2-tags',
    '{}',
    '--ecs-cluster',
    'prod',
    '--aws-control',
    '--rabbitmq-url',
    `amqp://127.0.0.1:${await freePort()}`,
  ];
  const told = {
    ...{ EC2_WORKER_AMI: 'ssm:/ami', EC2_WORKER_INSTANCE_TYPES: 'm5.large' },
    ...{ FARGATE_WORKER_CLUSTER: 'prod', FARGATE_WORKER_TASK_DEFINITION: 'worker' },
  };
  const args = ['doctor', '--timeout', '60s', ...flags];
  const doctor = startProgram({ name: 'doctor', args, env: { ...aws.env, ...told } });
  // Nobody is there.
  expect(await doctor.ended).toMatchObject({ code: 1 });
  expect(doctor.stdout()).toMatch(/^fail {2}rabbitmq .*ECONNREFUSED/m);
  const found = doctor.stdout().match(/^(ok|warn|fail|skip) +aws-[\w-]+/gm) ?? [];
  expect(found.map((line) => line.replace(/ +/, ' '))).toEqual([
    'ok aws-identity',
    ...Array.from({ length: 5 }, () => 'ok aws-ec2'),
    'ok aws-ecs',
    'ok aws-run-instances',
    ...Array.from({ length: 5 }, () => 'ok aws-run-task'),
  ]);
});
