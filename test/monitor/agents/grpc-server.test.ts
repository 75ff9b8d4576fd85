import { connect as connectHttp2, type ClientHttp2Stream } from 'node:http2';
import { createServer } from 'node:net';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Metadata, Server, status as codes } from '@grpc/grpc-js';
import { createLogger, createMetrics, FakeClock, printAddress, Tokens } from '@carrierarr/platform';
import { expect, it, onTestFinished, vi } from 'vitest';
import { PUBLIC_BYTES_MAX, REQUEST_BYTES_MAX } from '../../../apps/monitor/src/agents/call-gate.js';
import { ADMISSION_CHECK_MS, GrpcServer } from '../../../apps/monitor/src/agents/grpc-server.js';
import { createAgentMetrics } from '../../../apps/monitor/src/agents/metrics.js';
import { Peers } from '../../../apps/monitor/src/agents/peers.js';
import { until } from '../../support/until.js';
import { TestAgent } from './support.js';

const logger = createLogger({ program: 'test', level: 'silent' });

/** A server whose calls do nothing, with a clock of the test. */
function serverOf({ port = 0, tokens }: { port?: number; tokens?: Tokens } = {}) {
  const clock = new FakeClock();
  const open = new Set<unknown>();
  const registry = createMetrics({ program: 'monitor', version: 'test', hasProcessMetrics: false });
  const never = () => Promise.reject(new Error('not asked for in these tests'));
  const server = new GrpcServer({
    ...{ addr: { host: '127.0.0.1', port }, certificates: undefined, requiresClientCertificate: false, tokens },
    peers: new Peers({ streamsMax: 10, streamsPerAddressMax: 10, callsPerSecond: 10 }),
    limits: {
      ...{ messagesPerSecond: 10, bytesPerSecond: 1e6, messageBytesMax: 1e6 },
      ...{ keepaliveMs: 10_000, keepaliveTimeoutMs: 10_000 },
    },
    calls: { register: never, heartbeat: never, getFleetStatus: never },
    handle: () => Promise.resolve(),
    onOpened(stream) {
      // It has said who it is.
      stream.identity = { key: 'a', name: 'a', fence: 1, streamsCommands: true };
      open.add(stream);
    },
    onClosed: (stream) => void open.delete(stream),
    ...{ clock, logger },
    metrics: createAgentMetrics(registry, { streams: () => open.size, mailOpen: () => 0, resultsWaiting: () => 0 }),
  });
  onTestFinished(async () => {
    const stopped = server.stop();
    clock.advance(60_000);
    await stopped;
  });
  const refused = async () => (await registry.getMetricsAsJSON()).find(({ name }) => name.endsWith('refused_total'));
  return { server, clock, open, refused };
}

async function tokensOf(text: string) {
  const folder = await mkdtemp(join(tmpdir(), 'carrierarr-tokens-'));
  const path = join(folder, 'tokens');
  const write = (lines: string) => writeFile(path, lines, { mode: 0o600 });
  await write(text);
  const tokens = new Tokens({ path, clock: new FakeClock(), logger });
  await tokens.start();
  onTestFinished(async () => {
    tokens.stop();
    await rm(folder, { recursive: true, force: true });
  });
  return { tokens, write };
}

it('a stream ends once its token is taken out of the file, and is told why; those of others stay', async () => {
  const [KEPT, REVOKED] = ['agent-token-of-the-one', 'agent-token-of-another'];
  const { tokens, write } = await tokensOf(`one ${KEPT}\nother ${REVOKED}\n`);
  const { server, clock, open, refused } = serverOf({ tokens });
  await server.listen();
  const address = printAddress(server.address as NonNullable<typeof server.address>);
  const streamWith = (token: string) => {
    const metadata = new Metadata();
    metadata.set('authorization', `Bearer ${token}`);
    const agent = new TestAgent(address, undefined, {}, metadata);
    onTestFinished(() => agent.client.close());
    return agent.stream();
  };
  const ends: string[] = [];
  const kept = streamWith(KEPT);
  void kept.ended.then(({ details }) => ends.push(details));
  const revoked = streamWith(REVOKED);
  await until('both streams', () => open.size === 2);

  clock.advance(ADMISSION_CHECK_MS);
  await write(`one ${KEPT}\n`);
  await tokens.refresh();
  clock.advance(ADMISSION_CHECK_MS - 1);
  expect(open.size).toBe(2);
  clock.advance(1);
  const end = await revoked.ended;
  expect(end).toEqual({
    code: codes.UNAUTHENTICATED,
    details: expect.stringMatching(/not .* let in any more/) as string,
  });
  expect(end.details).not.toContain(REVOKED);
  expect((await refused())?.values).toContainEqual({
    value: 1,
    labels: expect.objectContaining({ reason: 'token' }) as object,
  });

  // The same token, but somebody else's now.
  await write(`someone-else ${KEPT}\n`);
  await tokens.refresh();
  expect(ends).toEqual([]);
  clock.advance(ADMISSION_CHECK_MS);
  expect((await kept.ended).code).toBe(codes.UNAUTHENTICATED);
  expect(open.size).toBe(0);
});

it('asks for one injector of connections, however often the port is taken', async () => {
  const created = vi.spyOn(Server.prototype, 'createConnectionInjector');
  onTestFinished(() => created.mockRestore());
  const holder = createServer();
  await new Promise<void>((resolve) => void holder.listen(0, '127.0.0.1', resolve));
  const { port } = holder.address() as { port: number };
  const { server, clock, open } = serverOf({ port });
  for (let i = 0; i < 3; i += 1) await expect(server.listen()).rejects.toMatchObject({ code: 'EADDRINUSE' });
  // Nothing is left of these tries.
  expect(clock.pendingTimers).toBe(0);
  await new Promise((resolve) => void holder.close(resolve));
  await server.listen();
  expect(created).toHaveBeenCalledTimes(1);
  const agent = new TestAgent(`127.0.0.1:${port}`);
  onTestFinished(() => agent.client.close());
  agent.stream();
  await until('its stream', () => open.size === 1);
});

/** A call of which only the begin of its message is sent: `announcedBytes` of it are to come. Resolves to how it was answered. */
function begunCall(session: ReturnType<typeof connectHttp2>, path: string, announcedBytes: number, token?: string) {
  const call: ClientHttp2Stream = session.request({
    ...{ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' },
    ...(token !== undefined && { authorization: `Bearer ${token}` }),
  });
  const begin = Buffer.alloc(6);
  begin.writeUInt32BE(announcedBytes, 1);
  call.write(begin);
  return new Promise<{ code: number; details: string }>((resolve) => {
    call.on('response', (head) => {
      resolve({ code: Number(head['grpc-status']), details: decodeURI(String(head['grpc-message'])) });
    });
  });
}

it('refuses a call before it has read its message, which may be as large as output for a stream only', async () => {
  const TOKEN = 'agent-token-of-the-one';
  const { tokens } = await tokensOf(`one ${TOKEN}\n`);
  const { server, refused } = serverOf({ tokens });
  await server.listen();
  const session = connectHttp2(`http://${printAddress(server.address as NonNullable<typeof server.address>)}`);
  onTestFinished(() => session.destroy());
  const [service, health] = ['/ec2agent.v1.AgentControl/', '/grpc.health.v1.Health/Check'];

  for (const name of ['Register', 'Heartbeat', 'GetFleetStatus']) {
    const answer = await begunCall(session, `${service}${name}`, 1_000);
    expect(answer).toMatchObject({ code: codes.UNAUTHENTICATED, details: expect.stringContaining('token') as string });
  }
  expect((await refused())?.values).toContainEqual({
    value: 3,
    labels: expect.objectContaining({ reason: 'token' }) as object,
  });
  const tooLarge = { code: codes.RESOURCE_EXHAUSTED, details: expect.stringContaining('larger than max') as string };
  expect(await begunCall(session, `${service}Register`, REQUEST_BYTES_MAX + 1, TOKEN)).toMatchObject(tooLarge);
  expect(await begunCall(session, health, PUBLIC_BYTES_MAX + 1)).toMatchObject(tooLarge);

  // What is within the bounds is waited for, and a stream may send all that output needs.
  const waiting = [
    begunCall(session, `${service}Register`, REQUEST_BYTES_MAX, TOKEN),
    begunCall(session, health, PUBLIC_BYTES_MAX),
    begunCall(session, `${service}Connect`, 1e6, TOKEN),
  ];
  const later = begunCall(session, `${service}Register`, 1_000);
  expect(await Promise.race([later, ...waiting])).toMatchObject({ code: codes.UNAUTHENTICATED });
});
