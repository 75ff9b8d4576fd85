/**
 * What docs/how-to/move-a-go-installation.md does: agents in use today go from one control plane to another on the same machine, one by its
 * configuration, the others as the new one takes the address and the queues of the old one. An installation of its own plays the old one.
 */
import { expect, onTestFinished, test } from 'vitest';
import { AGENT_EXCHANGES } from '@carrierarr/protocol';
import { Installation } from '../support/installation.js';
import { OldAgent, type Plain } from '../support/old-agent.js';
import { type Program, startGateway, startMonitor } from '../support/programs.js';
import { BROKER_START_MS, noRabbitMq, startRabbitMq, VHOST } from '../support/rabbitmq.js';
import { freePort } from '../support/redis.js';
import { until } from '../support/until.js';

const missing = noRabbitMq();

function addressedTo(port: number, hostName: string, instanceId: string): OldAgent {
  const agent = new OldAgent({ address: `127.0.0.1:${port}`, hostName, instanceId });
  onTestFinished(() => agent.close());
  return agent;
}

async function nodeAt(gateway: Program, id: string): Promise<Plain | undefined> {
  const answer = await fetch(`${gateway.url}/api/v1/nodes`);
  return ((await answer.json()) as Plain[]).find((node) => node['id'] === id);
}

/** The node, once the gateway says this of it. */
function seen(gateway: Program, id: string, fields: Plain): Promise<Plain> {
  let last: Plain | undefined;
  return until(
    () => `${id} to be ${JSON.stringify(fields)}; it is ${JSON.stringify(last)}`,
    async () => {
      last = await nodeAt(gateway, id);
      return last !== undefined && Object.entries(fields).every(([key, value]) => last?.[key] === value) && last;
    },
    20_000,
  );
}

test.skipIf(missing !== undefined)(
  'clients and scripts of the new control plane do not notice that it takes the address and the queues of the old one, and agents follow',
  { timeout: BROKER_START_MS + 120_000 },
  async () => {
    const broker = await startRabbitMq();
    onTestFinished(() => broker.stop(), 30_000);
    const rabbit = ['--rabbitmq-url', broker.url, '--rabbitmq-vhost', VHOST];
    const [oldPort, newPort] = await Promise.all([freePort(), freePort()]);
    const serving = (port: number) => ['--grpc-addr', `127.0.0.1:${port}`, '--grpc-insecure'];

    // The old one, with an agent on each of its ways in, and one on both.
    const old = await Installation.start({
      ...{ gateways: 1, runners: 0, monitors: 1 },
      monitorFlags: [...serving(oldPort), ...rabbit],
    });
    const queues = await (await broker.client()).createChannel();
    const say = ({ name }: { name: string }, key: string, body: object) =>
      queues.publish(name, key, Buffer.from(JSON.stringify(body)), {
        persistent: true,
        contentType: 'application/json',
      });
    const registration = (node: string) => ({
      ...{ action: 'register', node_id: node, node_type: 'gpu-worker', nebula_ip: '10.42.0.9' },
      capabilities: { gpu: true },
    });
    const beat = (node: string) =>
      say(AGENT_EXCHANGES.heartbeat, '', { node_id: node, status: 'healthy', services: {}, resources: {} });
    await until('the queues to be made', () => queues.checkQueue(AGENT_EXCHANGES.heartbeat.queue).then(() => true));
    const first = addressedTo(oldPort, 'gpu-1', 'i-0000000a');
    const second = addressedTo(oldPort, 'gpu-2', 'i-0000000b');
    for (const agent of [first, second]) {
      await agent.register();
      agent.connect();
    }
    say(AGENT_EXCHANGES.registration, 'register', registration('i-0000000c'));
    await seen(old.gateway(0), 'gpu-2', { stream_active: true });
    await seen(old.gateway(0), 'i-0000000c', { type: 'NODE_TYPE_GPU_WORKER' });

    // Beside it the new one, which runs something for a client.
    const it = await Installation.start({ gateways: 1, runners: 1, monitors: 1, monitorFlags: serving(newPort) });
    const client = await it.oldClient('client');
    const commandId = client.submit('worker-1', 'hold', 10, 0.01);
    await it.started(commandId);

    // One agent is told another address, and started again.
    first.close();
    const moved = addressedTo(newPort, 'gpu-1', 'i-0000000a');
    await moved.register();
    moved.connect();
    await seen(it.gateway(0), 'gpu-1', { stream_active: true, type: 'NODE_TYPE_GPU_WORKER' });

    // The old one ends; a heartbeat comes while nobody reads.
    const [ending] = old.monitors as [Program];
    old.retire(ending);
    await ending.kill();
    beat('i-0000000c');
    const [gateway, monitor] = [
      startGateway({ name: 'gateway-taking-over', redisUrl: it.redis.url }),
      startMonitor({
        ...{ name: 'monitor-taking-over', redisUrl: it.redis.url },
        flags: ['--poll', '1s', ...serving(oldPort), ...rabbit],
      }),
    ];
    onTestFinished(async () => void (await Promise.all([gateway.stop(), monitor.stop()])), 30_000);
    await Promise.all([gateway.ready(), monitor.ready()]);

    // It connects again by itself, and does not register.
    let streams = 1;
    await until('it to be served again', async () => {
      if (second.ends.length >= streams) {
        second.connect();
        streams += 1;
      }
      return (await nodeAt(gateway, 'gpu-2'))?.['stream_active'] === true;
    });
    await seen(gateway, 'i-0000000c', { connected: true, health_status: 'healthy' });
    // Who does not register again has no type, until it is started again.
    expect(await nodeAt(gateway, 'gpu-2')).toMatchObject({ type: 'NODE_TYPE_UNSPECIFIED', nebula_ip: '' });
    expect(await nodeAt(gateway, 'i-0000000c')).toMatchObject({ type: 'NODE_TYPE_UNSPECIFIED', nebula_ip: '' });
    await second.register();
    say(AGENT_EXCHANGES.registration, 'register', registration('i-0000000c'));
    await seen(gateway, 'gpu-2', { type: 'NODE_TYPE_GPU_WORKER', instance_id: 'i-0000000b', stream_active: true });
    await seen(gateway, 'i-0000000c', { type: 'NODE_TYPE_GPU_WORKER', nebula_ip: '10.42.0.9', connected: true });

    // What served the move may go; the script has run through all of it.
    const [temporary] = it.monitors as [Program];
    it.retire(temporary);
    await temporary.stop();
    moved.close();
    await it.release(commandId);
    await it.verdict('moving over');
    expect(client.socket.isOpen).toBe(true);
  },
);
