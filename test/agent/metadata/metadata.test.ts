import { createLogger, FakeClock, systemClock } from '@carrierarr/platform';
import { Writable } from 'node:stream';
import { afterEach, describe, expect, it } from 'vitest';
import { ecsIdentity, ecsIdentityOf } from '../../../apps/agent/src/metadata/ecs.js';
import { cloudToAsk, identityOf } from '../../../apps/agent/src/metadata/identity.js';
import { IdentitySearch } from '../../../apps/agent/src/metadata/identity-search.js';
import type { CloudIdentity } from '../../../apps/agent/src/metadata/cloud-identity.js';
import { Imds, type InterruptionNotice, rebalanceNotice, spotNotice } from '../../../apps/agent/src/metadata/imds.js';
import { InterruptionWatch } from '../../../apps/agent/src/metadata/interruption-watch.js';
import { endServers, json, startServer } from '../support/http-server.js';

afterEach(endServers);

/** EC2's service, as its documentation has it. `extra`: further paths below /latest/. */
async function imdsServer(extra: Record<string, string> = {}) {
  const state = { token: 'token-1', extra };
  const paths: Record<string, string> = {
    ...{ 'meta-data/instance-id': 'i-0abc', 'meta-data/placement/region': 'eu-central-1' },
    ...{ 'meta-data/placement/availability-zone': 'eu-central-1a', 'meta-data/public-ipv4': '3.4.5.6' },
  };
  const server = await startServer((request, response) => {
    if (request.method === 'PUT' && request.url === '/latest/api/token') {
      if (request.headers['x-aws-ec2-metadata-token-ttl-seconds'] === undefined)
        return void response.writeHead(400).end();
      return void response.writeHead(200).end(state.token);
    }
    if (request.headers['x-aws-ec2-metadata-token'] !== state.token) return void response.writeHead(401).end();
    const found = { ...paths, ...state.extra }[(request.url ?? '').slice('/latest/'.length)];
    return void (found === undefined ? response.writeHead(404).end() : response.writeHead(200).end(found));
  });
  return { server, state };
}

describe('on EC2', () => {
  it('the instance says who it is, by a token', async () => {
    const { server } = await imdsServer();
    const imds = new Imds(server.url, systemClock);
    const identity = { instanceId: 'i-0abc', region: 'eu-central-1', az: 'eu-central-1a', publicIp: '3.4.5.6' };
    expect(await imds.identity()).toEqual(identity);
    expect(server.requests.filter((request) => request.startsWith('PUT'))).toHaveLength(1);
  });

  it('a token that is not taken any more is replaced', async () => {
    const { server, state } = await imdsServer();
    const imds = new Imds(server.url, systemClock);
    await imds.identity();
    state.token = 'token-2';
    expect((await imds.identity())?.instanceId).toBe('i-0abc');
  });

  it('a token is replaced before its time is over', async () => {
    const { server } = await imdsServer();
    const clock = new FakeClock();
    const imds = new Imds(server.url, clock);
    await imds.identity();
    clock.advance(6 * 3_600_000);
    await imds.identity();
    expect(server.requests.filter((request) => request.startsWith('PUT'))).toHaveLength(2);
  });

  it('an instance that has no public address has none', async () => {
    const { server } = await imdsServer();
    const other = await startServer((request, response) => {
      if (request.method === 'PUT') return void response.writeHead(200).end('t');
      if (request.url?.endsWith('instance-id')) return void response.writeHead(200).end('i-1');
      return void response.writeHead(404).end();
    });
    expect(await new Imds(other.url, systemClock).identity()).toEqual({
      instanceId: 'i-1',
      region: '',
      az: '',
      publicIp: '',
    });
    expect(server.requests).toEqual([]);
  });

  it('nobody answers elsewhere', async () => {
    expect(await new Imds('http://127.0.0.1:1', systemClock).identity()).toBeUndefined();
    const hanging = await startServer(() => undefined);
    expect(await new Imds(hanging.url, systemClock, 100).identity()).toBeUndefined();
  });

  it.each([
    [
      '{"action": "terminate", "time": "2017-09-18T08:22:00Z"}',
      { atMs: Date.UTC(2017, 8, 18, 8, 22), detail: 'terminate' },
    ],
    ['{"action": "stop"}', { atMs: undefined, detail: 'stop' }],
    ['nonsense', { atMs: undefined, detail: 'taken back' }],
  ])('a spot notice is read: %s', (text, notice) => {
    expect(spotNotice(text)).toEqual({ kind: 'spot', ...notice });
  });

  it('a rebalance notice says when it was given, which is not when something happens', () => {
    expect(rebalanceNotice('{"noticeTime": "2020-10-26T08:22:00Z"}')).toEqual({
      ...{ kind: 'rebalance', atMs: undefined, detail: 'recommended at 2020-10-26T08:22:00Z' },
    });
  });

  it('notices are told once each, at once, and are not taken back by silence', async () => {
    const { server, state } = await imdsServer();
    const notices: InterruptionNotice[] = [];
    const watch = new InterruptionWatch({
      ...{
        imds: new Imds(server.url, systemClock),
        clock: new FakeClock(),
        onNotice: (notice) => notices.push(notice),
      },
      logger: createLogger({ program: 'test', level: 'silent', destination: new Writable() }),
    });
    await watch.ask();
    expect(notices).toEqual([]);
    state.extra = { 'meta-data/events/recommendations/rebalance': '{"noticeTime":"2020-10-26T08:22:00Z"}' };
    await watch.ask();
    await watch.ask();
    expect(notices.map(({ kind }) => kind)).toEqual(['rebalance']);
    state.extra['meta-data/spot/instance-action'] = '{"action":"terminate","time":"2020-10-26T08:30:00Z"}';
    await watch.ask();
    await server.stop();
    await watch.ask();
    expect(notices.map(({ kind }) => kind)).toEqual(['rebalance', 'spot']);
    expect(watch.notice?.kind).toBe('spot');
  });
});

describe('on ECS', () => {
  const TASK = {
    TaskARN: 'arn:aws:ecs:us-west-2:111122223333:task/default/158d1c8083dd49d6b527399fd6414f5c',
    ...{ Family: 'curltest', AvailabilityZone: 'us-west-2d', LaunchType: 'FARGATE' },
  };

  it('the task says who it is: its ARN is the instance id', async () => {
    const server = await startServer((request, response) => json(response, request.url === '/v4/x/task' ? TASK : {}));
    const identity = { instanceId: TASK.TaskARN, region: 'us-west-2', az: 'us-west-2d', publicIp: '' };
    expect(await ecsIdentity(`${server.url}/v4/x`)).toEqual(identity);
    const env = { ECS_CONTAINER_METADATA_URI_V4: `${server.url}/v4/x` };
    const cloud = cloudToAsk({ metadata: 'auto', metadataUrl: 'http://127.0.0.1:1' }, env, systemClock);
    expect(await cloud?.identity()).toEqual(identity);
    expect(cloud?.imds).toBeUndefined();
  });

  it.each([null, {}, { TaskARN: 1 }, { TaskARN: 'no arn' }])('%j is no task', (answer) => {
    expect(ecsIdentityOf(answer)).toBeUndefined();
  });
});

describe('a metadata service that is not there yet', () => {
  function search(answers: (CloudIdentity | undefined)[]) {
    const clock = new FakeClock();
    const found: CloudIdentity[] = [];
    const asked: number[] = [];
    const lines: string[] = [];
    const destination = new Writable({
      write: (chunk, _encoding, done) => (lines.push(String(chunk)), done()),
    });
    const made = new IdentitySearch({
      ask: () => (asked.push(clock.monotonicMs()), Promise.resolve(answers.shift())),
      ...{ onFound: (identity) => found.push(identity), clock, random: () => 0.5 },
      logger: createLogger({ program: 'test', level: 'warn', format: 'json', destination }),
    });
    return { clock, found, asked, lines, made };
  }
  const identity = { instanceId: 'i-1', region: 'r', az: 'a', publicIp: '' };

  it('is asked again, less and less often, until it answers', async () => {
    const { clock, found, asked, lines, made } = search([...Array.from({ length: 9 }, () => undefined), identity]);
    made.start();
    await clock.advanceAsync(3_600_000);
    expect(found).toEqual([identity]);
    expect(asked).toHaveLength(10);
    const pauses = asked.map((ms, i) => ms - (asked[i - 1] ?? 0));
    expect(pauses[0]).toBe(7_000);
    expect(pauses.at(-1)).toBe(152_000);
    expect(clock.pendingTimers).toBe(0);
    // Once, not at each question.
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('--metadata off');
  });

  it('is asked no more once the agent stops', async () => {
    const { clock, found, made } = search([identity]);
    made.start();
    made.stop();
    await clock.advanceAsync(3_600_000);
    expect(found).toEqual([]);
  });
});

describe('the identity', () => {
  const nothing = { nodeId: null, instanceId: null, nebulaIp: '10.1.1.1', publicIp: null, region: null, az: null };
  const cloud = { instanceId: 'i-1', region: 'r', az: 'a', publicIp: '1.1.1.1' };

  it('is what is set, else what the cloud says, else the host name', () => {
    expect(identityOf({ ...nothing, nodeId: 'n', instanceId: 'mine' }, cloud)).toEqual({
      ...{ nodeId: 'n', instanceId: 'mine', nebulaIp: '10.1.1.1', publicIp: '1.1.1.1', region: 'r', az: 'a' },
    });
    const alone = identityOf(nothing, undefined);
    expect(alone.instanceId).toBe('');
    expect(alone.nodeId).not.toBe('');
  });
});
