/** An agent that learns late who its machine is, and what monitors then know: one node, not two. */
import { FakeClock } from '@carrierarr/platform';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { endAgents, startAgent } from '../../agent/support/agent-process.js';
import { endServers, startServer } from '../../agent/support/http-server.js';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { until } from '../../support/until.js';
import { installationOf } from './support.js';

let redis: TestRedis;
let home: ReturnType<typeof installationOf>;
beforeAll(async () => {
  redis = await startRedis();
});
beforeEach(() => {
  home = installationOf(redis);
});
afterEach(async () => {
  await endAgents();
  await endServers();
  await home.stop();
});
afterAll(() => redis.stop());

/** An agent with a stream, and what makes its metadata service answer. */
async function agentWithoutIdentity() {
  let isThere = false;
  const imds = await startServer((request, response) => {
    const isKnown = request.method === 'PUT' || request.url?.endsWith('/instance-id');
    return void response.writeHead(isThere && isKnown ? 200 : 404).end('i-late');
  });
  const { address } = await home.monitor('m1');
  const clock = new FakeClock();
  await startAgent({ flags: ['--control-plane', address, '--metadata', 'ec2', '--metadata-url', imds.url], clock });
  const { stream } = await home.streaming('node-1');
  return {
    fence: stream?.fence ?? 0,
    learn: async () => {
      isThere = true;
      return until('the node to go by its instance id', async () => {
        await clock.advanceAsync(1_000);
        const node = await home.node('i-late');
        return node?.status !== undefined && home.follow.isStreaming(node) && node;
      });
    },
  };
}

it('is one node under its instance id then, with the stream it had', async () => {
  const { fence, learn } = await agentWithoutIdentity();
  const node = await learn();
  expect(node).toMatchObject({ key: 'i-late', name: 'node-1', stream: { fence } });
  expect([...home.follow.nodes.keys()]).toEqual(['i-late']);
});

it('is one node, too, if the machine was known by another host name before', async () => {
  await home.registry.register('old-name', { instance_id: 'i-late' } as never, 'grpc');
  const old = await home.registry.openStream('old-name', 'i-late', 'm0');
  if (old.kind === 'open') await home.registry.closeStream('i-late', old.fence);
  const { learn } = await agentWithoutIdentity();
  await learn();
  expect([...home.follow.nodes.keys()]).toEqual(['i-late']);
});
