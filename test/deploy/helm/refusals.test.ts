/** Values that are refused, in words that say what was found and what to do. */
import { describe, expect, test } from 'vitest';
import { helmMissing } from '../../support/deploy-tools.js';
import { refusal, RENDER_MS } from './chart.js';

const external = { 'redis.bundled.enabled': false };

describe.skipIf(helmMissing !== undefined).concurrent('the chart refuses', { timeout: RENDER_MS }, () => {
  test.each([
    ['a misspelt value', { 'gateway.replica': 3 }, "at '/gateway': additional properties 'replica' not allowed"],
    [
      'a misspelt setting',
      { 'gateway.config.idleTimeot': '30s' },
      "at '/gateway/config': additional properties 'idleTimeot'",
    ],
    [
      'a setting of another program',
      { 'gateway.config.concurrency': 3 },
      "additional properties 'concurrency' not allowed",
    ],
    ['a setting that the chart makes', { 'gateway.config.addr': ':1' }, "additional properties 'addr' not allowed"],
    [
      'a duration without a unit',
      { 'gateway.config.idleTimeout': '30' },
      "at '/gateway/config/idleTimeout': '30' does not match",
    ],
    [
      'a number out of range',
      { 'runner.config.concurrency': 0 },
      "at '/runner/config/concurrency': minimum: got 0, want 1",
    ],
    [
      'a shared setting for one alone',
      { 'runner.config.historyAge': '1h' },
      "additional properties 'historyAge' not allowed",
    ],
    ['text for a number', { 'gateway.replicas': 'two' }, "at '/gateway/replicas': got string, want integer"],
    ['another mode', { mode: 'prod' }, "at '/mode': value must be one of 'trial', 'production'"],
    [
      'a file that nobody could put there',
      { 'gateway.config.jwtJwksFile': '/keys' },
      "additional properties 'jwtJwksFile' not allowed",
    ],
    ['a port of root', { 'gateway.port': 80 }, "at '/gateway/port': minimum: got 80, want 1,024"],
    ['a preset that is none', { 'ingress.preset': 'haproxy' }, "at '/ingress/preset': value must be one of"],
    ['runners scaled to none', { 'runner.autoscaling.minReplicas': 0 }, 'minimum: got 0, want 1'],
    ['a Redis without a bound', { 'redis.bundled.maxmemory': '0' }, "at '/redis/bundled/maxmemory'"],
    ['keys of tokens in the clear', { 'auth.jwt.jwksUrl': 'http://id.example' }, "at '/auth/jwt/jwksUrl'"],
  ])('%s', async (_, values, words) => expect(await refusal(values)).toContain(words));

  const jwt = { 'auth.jwt': { jwksUrl: 'https://id.example/jwks' } };
  const open = { 'auth.anonymous': true };
  test.each([
    [
      'everybody through an Ingress',
      { ...open, 'ingress.enabled': true, 'ingress.hosts': ['a.example'] },
      'anybody there could run commands on your workers',
    ],
    ['everybody through an HTTPRoute', { ...open, 'httpRoute.enabled': true }, 'auth.anonymous lets everybody in'],
    [
      'everybody through a load balancer',
      { ...open, 'gateway.service.type': 'LoadBalancer' },
      'auth.anonymous lets everybody in',
    ],
    ['everybody and tokens', { ...open, 'auth.existingSecret': 'tokens' }, 'Keep one of them'],
    ['nobody', { 'auth.generateToken': false }, 'Nobody could connect: set auth.existingSecret'],
    ['tokens of any issuer', jwt, 'auth.jwt needs auth.jwt.issuer and auth.jwt.audience'],
    [
      'tokens of any issuer, by a file',
      { 'auth.jwt.jwksFile.existingSecret': 'keys' },
      'auth.jwt needs auth.jwt.issuer',
    ],
    [
      'everybody and tokens by a file of keys',
      { ...open, 'auth.jwt': { jwksFile: { existingSecret: 'keys' }, issuer: 'i', audience: 'a' } },
      'auth.anonymous lets everybody in, but tokens are configured too',
    ],
    [
      'keys from two places',
      { 'auth.jwt': { jwksUrl: 'https://id.example/jwks', jwksFile: { existingSecret: 'keys' } } },
      'auth.jwt.jwksUrl and auth.jwt.jwksFile are both set',
    ],
    [
      'keys from two files',
      { 'auth.jwt.jwksFile': { existingSecret: 'keys', existingConfigMap: 'keys' } },
      'existingConfigMap and auth.jwt.jwksFile.existingSecret are both set',
    ],
    ['an issuer without keys', { 'auth.jwt.issuer': 'https://id.example' }, 'add auth.jwt.jwksUrl'],
    ['one port of gateways twice', { 'gateway.port': 9091 }, 'gateway.port and gateway.opsPort are both 9091'],
    ['two Redis', { 'redis.external.url': 'redis://a.example:6379' }, 'Set redis.bundled.enabled=false'],
    ['no Redis', external, 'There is no Redis: set redis.external.url'],
    [
      'Sentinels that are nowhere',
      { ...external, 'redis.external.mode': 'sentinel' },
      'redis.external.mode=sentinel needs redis.external.nodes',
    ],
    [
      'nodes of nothing',
      { ...external, 'redis.external.nodes': ['a:1'], 'redis.external.url': 'redis://a:1' },
      'Set it to sentinel or cluster',
    ],
    [
      'a password in the clear',
      { ...external, 'redis.external.url': 'redis://u:p@a.example:6379' },
      'contains a password, which everybody could read',
    ],
    [
      'keys of no Secret',
      { ...external, 'redis.external.url': 'redis://a', 'redis.external.passwordKey': 'p' },
      'which Secret are they in?',
    ],
    [
      'a Secret for nothing',
      { ...external, 'redis.external.url': 'redis://a', 'redis.external.existingSecret': 's' },
      'nothing is read from it',
    ],
    [
      'a certificate without its key',
      { ...external, 'redis.external.url': 'rediss://a', 'redis.external.tls': { existingSecret: 's', certKey: 'c' } },
      'a client certificate needs its key',
    ],
    [
      'certificates of no Secret',
      { ...external, 'redis.external.url': 'rediss://a', 'redis.external.tls.caKey': 'c' },
      'redis.external.tls has keys of a Secret',
    ],
    [
      'production on a Redis that forgets',
      { mode: 'production', 'redis.bundled.persistence.enabled': false },
      'a restart of its pod would lose accepted commands',
    ],
    [
      'production without a spare',
      { mode: 'production', 'monitor.replicas': 1 },
      'mode=production with monitor.replicas=1',
    ],
    [
      'production that scales to one',
      { mode: 'production', 'gateway.autoscaling.enabled': true, 'gateway.autoscaling.minReplicas': 1 },
      'gateway.autoscaling.minReplicas=1',
    ],
    [
      'a drain longer than the stop',
      { 'gateway.config.drainSpread': '40s' },
      'Expected gateway.config.shutdownGrace to be longer than drainDelay and drainSpread together (45s), got 30s.',
    ],
    [
      'a grace that cuts the stop',
      { 'gateway.terminationGracePeriodSeconds': 20 },
      'gateway.terminationGracePeriodSeconds=20 is shorter than the pod needs to stop by itself (35s)',
    ],
    [
      'a grace that cuts commands',
      { 'runner.terminationGracePeriodSeconds': 600 },
      'runner.terminationGracePeriodSeconds=600 is shorter than the pod needs to stop by itself (86400s)',
    ],
    ['commands longer than any stop', { 'runner.config.commandTimeoutMax': '200h' }, 'a runner waits for 168h'],
    [
      'fewest above most',
      { 'gateway.autoscaling.enabled': true, 'gateway.autoscaling.minReplicas': 30 },
      'minReplicas (30) is more than maxReplicas (10)',
    ],
    ['scaling on nothing', { 'gateway.autoscaling': { enabled: true, cpu: 0, connections: 0 } }, 'nothing to scale on'],
    ['KEDA without Prometheus', { 'runner.autoscaling.enabled': true }, 'needs runner.autoscaling.keda.prometheusUrl'],
    [
      'two scripts',
      { 'runner.script.inline': 'a', 'runner.script.existingConfigMap': 'b' },
      'are both set. Keep one of them.',
    ],
    [
      'a script for runners without one',
      { 'runner.config.withoutScript': true, 'runner.script.inline': 'a' },
      'runner.config.withoutScript is true, but there is a script',
    ],
    ['an Ingress without a name', { 'ingress.enabled': true }, 'ingress.enabled needs ingress.hosts'],
    ['a route without a Gateway', { 'httpRoute.enabled': true }, 'httpRoute.enabled needs httpRoute.parentRefs'],
    [
      'every metric twice',
      { 'metrics.serviceMonitor.enabled': true, 'metrics.podMonitor.enabled': true },
      'every metric would be counted twice',
    ],
  ])('%s', async (_, values, words) => expect(await refusal(values)).toContain(words));

  test.each([
    [
      'a duration that is too short',
      { 'gateway.config': { idleTimeout: '1s', unauthenticatedTimeout: '1s' } },
      'gateway.config.idleTimeout',
      '8s to 16m, got 1s.',
    ],
    ['one that is too long', { 'monitor.config.poll': '1h1s' }, 'monitor.config.poll', '1s to 1h, got 1h1s.'],
    [
      'one of none at all',
      { 'runner.config.redisOutageGrace': '0' },
      'runner.config.redisOutageGrace',
      '5s to 24h, got 0.',
    ],
    [
      'a part of a second',
      { 'monitor.config.grpcKeepalive': '99ms' },
      'monitor.config.grpcKeepalive',
      '100ms to 10m, got 99ms.',
    ],
    [
      'a size that is too small',
      { 'runner.config.spoolBytes': '63KiB' },
      'runner.config.spoolBytes',
      '64KiB to 1GiB, got 63KiB.',
    ],
    [
      'one that is too large',
      { 'gateway.config.messageBytesMax': '0.1GiB' },
      'gateway.config.messageBytesMax',
      '1KiB to 16MiB, got 0.1GiB.',
    ],
    [
      'one in bytes',
      { 'gateway.config.messageBytesMax': 1023 },
      'gateway.config.messageBytesMax',
      '1KiB to 16MiB, got 1023.',
    ],
    [
      'one of all components, once',
      { 'config.historyBytes': '2TiB' },
      'config.historyBytes',
      '64KiB to 1TiB, got 2TiB.',
    ],
  ])('%s for the program', async (_, values, key, words) => {
    const said = (await refusal(values)).match(/^- .*$/gm) ?? [];
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(new RegExp(`^- Expected ${key} to be a (duration|size) .*, from ${words}$`));
  });

  test.each([
    ['as the program waits by itself', { idleTimeout: '9s' }, '(9s), got 10s.'],
    ['as it is told to wait', { unauthenticatedTimeout: '1m1s' }, '(60s), got 1m1s.'],
    ['as both say', { idleTimeout: '90s', unauthenticatedTimeout: '1.6m' }, '(90s), got 1.6m.'],
  ])('a longer wait for a token than for any word: %s', async (_, config, words) => {
    const said = `Expected gateway.config.unauthenticatedTimeout to be at most idleTimeout ${words}`;
    expect(await refusal({ 'gateway.config': config })).toContain(`- ${said}\n`);
  });

  test('nothing at the bounds themselves', async () => {
    const gateway = {
      idleTimeout: '16m',
      unauthenticatedTimeout: '10m',
      messageBytesMax: 1024,
      ringBytes: 0,
      idempotencyWindow: '8760h',
    };
    const monitor = { poll: '1h', grpcKeepalive: '0.1s', grpcMessageBytesMax: '64MiB' };
    const values = { 'gateway.config': gateway, 'monitor.config': monitor, 'config.historyBytes': '65536' };
    expect(await refusal({ ...values, 'runner.config.historyTotalBytes': '64TiB' })).toBe('');
    expect(await refusal({ 'gateway.config': { idleTimeout: '0.2m', unauthenticatedTimeout: '12s' } })).toBe('');
  });

  const served = { 'agents.grpc.enabled': true };
  const tls = { ...served, 'agents.grpc.tls.existingSecret': 'tls' };
  const proxied = { ...served, 'agents.grpc.tls.atProxy': true, 'agents.grpc.tokens.existingSecret': 'tokens' };
  const parent = { parentRefs: [{ name: 'public' }] };
  const insecure = { ...served, 'agents.grpc.insecure': true };
  const named = { 'networkPolicy.agentsFrom': [{ ipBlock: { cidr: '10.0.0.0/8' } }] };
  test.each([
    ['by default', { agentHeartbeatInterval: '61s' }, 'agentHeartbeatInterval', '(2m), got 61s'],
    [
      'as it is set',
      { agentStatusInterval: '15.1s', staleTimeout: '0.5m' },
      'agentStatusInterval',
      '(0.5m), got 15.1s',
    ],
  ])('reports of agents too seldom for the time after which they are stale, %s', async (_, config, key, words) => {
    const said = `- Expected monitor.config.${key} to be at most half of staleTimeout ${words}: agents would`;
    expect(await refusal({ ...proxied, 'monitor.config': config })).toContain(said);
    // No monitor would mind where none serves agents.
    expect(await refusal({ 'monitor.config': config })).toBe('');
  });

  test('no reports of agents that come twice in that time', async () => {
    const config = { staleTimeout: '10s', agentHeartbeatInterval: '5s', agentStatusInterval: '5000ms' };
    expect(await refusal({ ...proxied, 'monitor.config': config })).toBe('');
  });

  test.each([
    ['agents without TLS', served, 'agents.grpc has no TLS: anybody on the way could read'],
    ['tokens without TLS', { ...served, 'agents.grpc.tokens.existingSecret': 't' }, 'agents.grpc has no TLS'],
    ['every machine that knows TLS', tls, 'agents.grpc does not tell agents from others'],
    [
      'every machine through a proxy that ends TLS',
      { ...served, 'agents.grpc.tls.atProxy': true },
      'Set agents.grpc.tokens.existingSecret or agents.grpc.clientCa.existingSecret.',
    ],
    [
      'every machine through a GRPCRoute',
      { ...insecure, 'agents.grpcRoute': { enabled: true, ...parent }, ...named },
      'whoever reaches that proxy could pass for a worker and be given its commands',
    ],
    [
      'every machine through a load balancer',
      { ...insecure, 'agents.service.type': 'LoadBalancer' },
      'agents.grpc.insecure lets every machine be an agent',
    ],
    [
      'every machine of every network through a load balancer',
      {
        ...insecure,
        'agents.service': { type: 'LoadBalancer', loadBalancerSourceRanges: ['10.0.0.0/8', '0.0.0.0/0'] },
      },
      'not all of them, as 0.0.0.0/0',
    ],
    [
      'every machine through ports of nodes, which know no ranges of a load balancer',
      { ...insecure, 'agents.service': { type: 'NodePort', loadBalancerSourceRanges: ['10.0.0.0/8'] } },
      '(agents.service.type=NodePort): anybody there could pass for a worker',
    ],
    [
      'every machine where a policy names some but is not made',
      { ...insecure, 'agents.service.type': 'NodePort', ...named, 'networkPolicy.enabled': false },
      'Say which networks agents come from',
    ],
    [
      'insecure beside what is safe',
      { ...tls, 'agents.grpc.insecure': true, 'agents.grpc.tokens.existingSecret': 't' },
      'agents.grpc.insecure is set, but TLS',
    ],
    [
      'certificates that no proxy passes on',
      { ...tls, 'agents.grpc.clientCa.existingSecret': 'ca', 'agents.grpcRoute': { enabled: true, ...parent } },
      'whoever comes is taken for the proxy',
    ],
    [
      'certificates without TLS',
      { ...proxied, 'agents.grpc.clientCa.existingSecret': 'ca' },
      'nobody shows a certificate',
    ],
    [
      'TLS that is ended twice',
      { ...proxied, 'agents.grpc.tls.existingSecret': 'tls' },
      'a proxy ends TLS. Keep one of them',
    ],
    ['a way to nobody', { 'agents.service.type': 'NodePort' }, 'monitors do not serve any'],
    ['one port twice', { ...proxied, 'agents.grpc.port': 9091 }, 'agents.grpc.port and monitor.opsPort are both 9091'],
    [
      'a GRPCRoute without a Gateway',
      { ...proxied, 'agents.grpcRoute.enabled': true },
      'needs agents.grpcRoute.parentRefs',
    ],
    [
      'one host for clients and agents',
      {
        ...proxied,
        httpRoute: { enabled: true, ...parent, hostnames: ['a.example', 'b.example'] },
        'agents.grpcRoute': { enabled: true, ...parent, hostnames: ['b.example'] },
      },
      'agents.grpcRoute and httpRoute have the same host (b.example)',
    ],
    [
      'an Ingress for agents without TLS',
      { ...proxied, 'agents.ingress': { enabled: true, hosts: ['a.example'] } },
      'agents.ingress has no TLS: tokens would cross the network in clear',
    ],
    [
      'an Ingress for agents without a name',
      { ...proxied, 'agents.ingress': { enabled: true, tls: [{ secretName: 'a' }] } },
      'agents.ingress.enabled needs agents.ingress.hosts',
    ],
    [
      'an authority of no RabbitMQ',
      { 'agents.rabbitmq.ca.existingSecret': 'ca' },
      'set agents.rabbitmq.existingSecret',
    ],
    [
      'a setting of a monitor that the chart makes',
      { 'monitor.config.grpcAddr': ':1' },
      "additional properties 'grpcAddr' not allowed",
    ],
    [
      'a grace that cuts the stop of a monitor',
      { ...proxied, 'monitor.terminationGracePeriodSeconds': 22 },
      'monitor.terminationGracePeriodSeconds=22 is shorter than the pod needs to stop by itself (25s)',
    ],
  ])('%s', async (_, values, words) => expect(await refusal(values)).toContain(words));

  test('no way to agents that is safe', async () => {
    expect(await refusal({ ...proxied, 'agents.grpcRoute': { enabled: true, ...parent } })).toBe('');
    expect(await refusal({ ...tls, 'agents.grpc.clientCa.existingSecret': 'ca' })).toBe('');
    expect(await refusal(insecure)).toBe('');
    expect(await refusal({ ...insecure, ...named, 'agents.service.type': 'NodePort' })).toBe('');
    const ranges = { type: 'LoadBalancer', loadBalancerSourceRanges: ['10.0.0.0/8'] };
    expect(await refusal({ ...insecure, 'agents.service': ranges })).toBe('');
  });

  test('all that is wrong at once', async () => {
    const said = await refusal({ 'auth.anonymous': true, 'ingress.enabled': true, 'runner.autoscaling.enabled': true });
    expect(said.match(/^- /gm)).toHaveLength(3);
  });

  test('not what is right', async () => expect(await refusal({ 'gateway.replicas': 3 })).toBe(''));
});
