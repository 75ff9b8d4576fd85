/** What single values do to the objects. */
import { describe, expect, test } from 'vitest';
import { helm, helmMissing, readRepository } from '../../support/deploy-tools.js';
import { compose } from '../compose.js';
import {
  componentOf,
  COMPONENTS,
  find,
  type KubernetesObject,
  podOf,
  podsOf,
  render,
  RENDER_MS,
  renderArguments,
} from './chart.js';

const secretText = (object: KubernetesObject, key: string): string =>
  Buffer.from(object.data?.[key] ?? '', 'base64').toString();
const annotation = (objects: KubernetesObject[], component: string, name: string): string | undefined =>
  podOf(objects, component).owner.spec.template?.metadata.annotations?.[name];

describe.skipIf(helmMissing !== undefined).concurrent('the chart', { timeout: RENDER_MS }, () => {
  test('makes by default what it made before', async (context) => {
    const text = await helm(...renderArguments('default', {}));
    const stable = text
      .replaceAll(/^( +(?:token|tokens|password)): [A-Za-z0-9+/=]+$/gm, '$1: MADE')
      .replaceAll(/^( +checksum\/\w+): [0-9a-f]{64}$/gm, '$1: SUM');
    // Update with `npx vitest run -u` and read what has changed.
    // Concurrent tests have snapshots of their own.
    await context.expect(stable).toMatchFileSnapshot('__snapshots__/default.yaml');
  });

  test('replaces pods one by one, the new one first', async () => {
    const objects = await render();
    for (const component of COMPONENTS) {
      const { owner } = podOf(objects, component);
      expect(owner.spec.strategy).toEqual({ type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } });
    }
  });

  test('gives a gateway time for its drain, and a pause before SIGTERM', async () => {
    const graceOf = async (values: Record<string, unknown>) => {
      const { spec, container } = podOf(await render('default', values), 'gateway');
      return [spec.terminationGracePeriodSeconds, container.lifecycle?.preStop?.sleep?.seconds];
    };
    expect(await graceOf({})).toEqual([45, 5]);
    const drain = { drainDelay: '10s', drainSpread: '1m', shutdownGrace: '1m30.5s' };
    expect(await graceOf({ 'gateway.config': drain, 'gateway.preStopSleepSeconds': 0 })).toEqual([101, undefined]);
  });

  test("lets a runner's grace outlast its longest command", async () => {
    const graceOf = async (config: Record<string, unknown>) => {
      const objects = await render('default', { 'runner.config': config });
      const settings = find(objects, 'ConfigMap', 'main-carrierarr-runner').data?.['config.yaml'];
      return [
        podOf(objects, 'runner').spec.terminationGracePeriodSeconds,
        /^shutdownGrace: (.*)$/m.exec(settings ?? '')?.[1],
      ];
    };
    expect(await graceOf({})).toEqual([24 * 3600 + 55, '86400s']);
    expect(await graceOf({ commandTimeoutMax: '2h30m', killGrace: '1m' })).toEqual([9000 + 60 + 45, '9000s']);
    expect(await graceOf({ shutdownGrace: '10m' })).toEqual([600 + 55, '600s']);
  });

  test('makes a token of 48 characters, and a tokens file that has it', async () => {
    const secret = find(await render(), 'Secret', 'main-carrierarr-auth');
    expect(secretText(secret, 'token')).toMatch(/^[A-Za-z0-9]{48}$/);
    expect(secretText(secret, 'tokens')).toBe(`admin ${secretText(secret, 'token')}\n`);
  });

  test('makes one password for Redis, also where it is used twice', async () => {
    const objects = await render();
    const password = secretText(find(objects, 'Secret', 'main-carrierarr-redis'), 'password');
    expect(password).toMatch(/^[A-Za-z0-9]{48}$/);
    const sums = ['gateway', 'runner', 'monitor', 'redis'].map((name) => annotation(objects, name, 'checksum/redis'));
    expect(new Set(sums).size).toBe(1);
    expect(sums[0]).toMatch(/^[0-9a-f]{64}$/);
  });

  test('restarts pods when their settings change, and only theirs', async () => {
    const [before, after] = await Promise.all([render(), render('default', { 'runner.config.concurrency': 5 })]);
    const sums = (objects: KubernetesObject[]) =>
      COMPONENTS.map((name) => annotation(objects, name, 'checksum/config'));
    expect(COMPONENTS.filter((_, at) => sums(before)[at] !== sums(after)[at])).toEqual(['runner']);
  });

  test('leaves the number of pods to what scales them', async () => {
    const objects = await render('production-eks');
    const replicas = Object.fromEntries(COMPONENTS.map((name) => [name, podOf(objects, name).owner.spec.replicas]));
    expect(replicas).toEqual({ gateway: undefined, runner: undefined, monitor: 2 });
  });

  test('scales gateways on CPU and connections', async () => {
    const { spec } = find(await render('production-eks'), 'HorizontalPodAutoscaler', 'main-carrierarr-gateway');
    expect(spec).toMatchObject({
      ...{ minReplicas: 2, maxReplicas: 20 },
      metrics: [
        { resource: { name: 'cpu', target: { averageUtilization: 70 } } },
        { pods: { metric: { name: 'carrierarr_gateway_connections' }, target: { averageValue: '5000' } } },
      ],
    });
  });

  test('scales runners on the summed depth of the queue, by as many as a pod runs at once', async () => {
    const { spec } = find(await render('production-eks'), 'ScaledObject', 'main-carrierarr-runner');
    expect(spec).toMatchObject({
      minReplicaCount: 2,
      triggers: [
        {
          type: 'prometheus',
          metadata: {
            query:
              'max(sum by (pod) (carrierarr_runner_queue_depth{namespace="fleet", pod=~"main-carrierarr-runner-.*"}))',
            threshold: '16',
          },
        },
      ],
    });
    const external = find(await render('redis-cluster'), 'HorizontalPodAutoscaler', 'main-carrierarr-runner');
    expect(external.spec).toMatchObject({ metrics: [{ external: { target: { averageValue: '8' } } }] });
  });

  test('gives each component an account of its own, with its role', async () => {
    const objects = await render('production-eks');
    const roles = objects
      .filter(({ kind }) => kind === 'ServiceAccount')
      .map((object) => [componentOf(object), object.metadata.annotations?.['eks.amazonaws.com/role-arn']]);
    expect(roles).toEqual([
      ['gateway', undefined],
      ['runner', 'arn:aws:iam::123456789012:role/carrierarr-runner'],
      ['monitor', 'arn:aws:iam::123456789012:role/carrierarr-monitor'],
    ]);
    for (const name of COMPONENTS) expect(podOf(objects, name).spec.serviceAccountName).toBe(`main-carrierarr-${name}`);
  });

  test.each([
    [
      'nginx',
      {
        'nginx.ingress.kubernetes.io/proxy-send-timeout': '3600',
        'nginx.ingress.kubernetes.io/proxy-read-timeout': '7200',
      },
    ],
    ['traefik', { 'traefik.ingress.kubernetes.io/router.entrypoints': 'websecure' }],
    [
      'production-eks',
      {
        'alb.ingress.kubernetes.io/target-type': 'ip',
        'alb.ingress.kubernetes.io/load-balancer-attributes': 'idle_timeout.timeout_seconds=3600',
        'alb.ingress.kubernetes.io/scheme': 'internet-facing',
      },
    ],
  ])('keeps WebSockets open through the Ingress of %s', async (scenario, annotations) => {
    const { metadata } = find(await render(scenario), 'Ingress', 'main-carrierarr-gateway');
    expect(metadata.annotations).toMatchObject(annotations);
  });

  test('routes from outside to what clients call, not to metrics and readiness', async () => {
    const ingress = find(await render('nginx'), 'Ingress', 'main-carrierarr-gateway').spec as {
      rules?: { http: { paths: { path: string; pathType: string }[] } }[];
    };
    const paths = [
      ['/ws', 'Exact'],
      ['/', 'Exact'],
      ['/health', 'Exact'],
      ['/version', 'Exact'],
      ['/api', 'Prefix'],
    ];
    expect(ingress.rules?.[0]?.http.paths.map(({ path, pathType }) => [path, pathType])).toEqual(paths);
    const route = find(await render('gateway-api'), 'HTTPRoute', 'main-carrierarr-gateway').spec as {
      rules?: { matches: { path: { type: string; value: string } }[]; timeouts?: unknown }[];
    };
    expect(route.rules?.map(({ matches }) => matches.map(({ path }) => `${path.type} ${path.value}`))).toEqual([
      ['Exact /ws'],
      ['Exact /', 'Exact /health', 'Exact /version', 'PathPrefix /api'],
    ]);
    expect(route.rules?.map(({ timeouts }) => timeouts)).toEqual([{ request: '0s' }, undefined]);
  });

  test('serves an example page that is in the images, as compose.yaml does, unless it is told not to', async () => {
    const pageOf = (objects: KubernetesObject[]) =>
      /^page: (.*)$/m.exec(find(objects, 'ConfigMap', 'main-carrierarr-gateway').data?.['config.yaml'] ?? '')?.[1];
    const page = pageOf(await render()) ?? '';
    expect(page).toMatch(/^\/opt\/carrierarr\/examples\//);
    expect(readRepository(page.replace('/opt/carrierarr/', ''))).toContain('<html');
    expect(compose.services['gateway']?.environment?.['CARRIERARR_PAGE']).toBe(page);
    expect(readRepository('deploy/images/assemble.mjs')).toContain("'examples'");
    expect(pageOf(await render('default', { 'gateway.config.page': null }))).toBeUndefined();
  });

  test('lets gateways read keys of JSON Web Tokens from a ConfigMap or a Secret, whole, so that they see new ones', async () => {
    const jwksOf = async (scenario: string) => {
      const { spec, container } = podOf(await render(scenario), 'gateway');
      const mount = container.volumeMounts?.find(({ name }) => name === 'jwks');
      return [mount, spec.volumes?.find(({ name }) => name === 'jwks')];
    };
    const mount = { name: 'jwks', mountPath: '/etc/carrierarr/jwks', readOnly: true };
    const ofKey = (key: string) => ({ items: [{ key, path: 'jwks.json' }] });
    expect(await jwksOf('nginx')).toEqual([
      mount,
      { name: 'jwks', configMap: { name: 'identity-keys', ...ofKey('keys.json') } },
    ]);
    expect(await jwksOf('traefik')).toMatchObject([
      mount,
      { name: 'jwks', secret: { secretName: 'identity-keys', ...ofKey('jwks.json') } },
    ]);
    const settings = find(await render('traefik'), 'ConfigMap', 'main-carrierarr-gateway').data?.['config.yaml'];
    expect(settings).toContain('jwtJwksFile: /etc/carrierarr/jwks/jwks.json');
  });

  test.each(['default', 'production-eks'])('gives a runner of %s memory for all commands at once', async (scenario) => {
    const objects = await render(scenario);
    const settings = find(objects, 'ConfigMap', 'main-carrierarr-runner').data?.['config.yaml'] ?? '';
    const limit = podOf(objects, 'runner').container.resources?.limits?.['memory'] ?? '';
    const mebibytes = Number(/^(\d+)Gi$/.exec(limit)?.[1]) * 1024;
    // The runner, its spool, and the AWS CLI for each.
    expect(150 + 64 + Number(/^concurrency: (\d+)$/m.exec(settings)?.[1]) * 100).toBeLessThanOrEqual(mebibytes);
  });

  test('leads probes and who scrapes to a port of gateways to which the public Service does not lead', async () => {
    const objects = await render('redis-url-secret', { 'metrics.podMonitor.enabled': true });
    const { container } = podOf(objects, 'gateway');
    const probes = [container.startupProbe, container.livenessProbe, container.readinessProbe];
    expect(probes.map((probe) => probe?.httpGet?.port)).toEqual(['ops', 'ops', 'ops']);
    const targetsOf = (name: string) =>
      find(objects, 'Service', name).spec.ports?.map(({ port, targetPort }) => [port, targetPort]);
    expect(targetsOf('main-carrierarr-gateway')).toEqual([[80, 'http']]);
    expect(targetsOf('main-carrierarr-gateway-internal')).toEqual([[9091, 'ops']]);
    expect(find(objects, 'PodMonitor', 'main-carrierarr').spec['podMetricsEndpoints']).toMatchObject([{ port: 'ops' }]);
  });

  test('lets clients to where they belong, and who scrapes to metrics', async () => {
    const from = [{ ipBlock: { cidr: '10.0.0.0/8' } }];
    const objects = await render('default', { 'networkPolicy.gatewayFrom': from });
    const rules = find(objects, 'NetworkPolicy', 'main-carrierarr-gateway').spec.ingress ?? [];
    const who = rules.map((rule) => [rule.ports?.map(({ port }) => port), JSON.stringify(rule.from)]);
    expect(who).toEqual([
      [['http'], expect.stringMatching(/10\.0\.0\.0.*"test"/)],
      [['ops'], expect.stringContaining('monitoring')],
    ]);
    expect(who[0]?.[1]).not.toContain('monitoring');
  });

  test('serves no agents unless it is asked to', async () => {
    const objects = await render();
    expect(find(objects, 'ConfigMap', 'main-carrierarr-monitor').data?.['config.yaml']).toContain('grpcAddr: "off"');
    expect(objects.filter(({ metadata }) => metadata.name.endsWith('-agents'))).toEqual([]);
  });

  test('has a Service for agents over which proxies speak HTTP/2', async () => {
    const protocolOf = async (scenario: string) =>
      find(await render(scenario), 'Service', 'main-carrierarr-agents').spec.ports?.map(
        ({ appProtocol }) => appProtocol,
      );
    expect(await protocolOf('agents-route')).toEqual(['kubernetes.io/h2c']);
    expect(await protocolOf('agents-certificates')).toEqual(['https']);
  });

  test.each([
    [
      'nginx',
      '/ec2agent.v1.AgentControl ImplementationSpecific',
      { 'backend-protocol': 'GRPC', 'proxy-body-size': '0' },
    ],
    ['traefik', '/ec2agent.v1.AgentControl Prefix', { 'router.entrypoints': 'websecure' }],
    [
      'production-eks',
      '/ec2agent.v1.AgentControl Prefix',
      { 'backend-protocol-version': 'GRPC', 'target-type': 'ip', 'success-codes': '0', 'certificate-arn': /./ },
    ],
  ])('brings agents to monitors by gRPC through the Ingress of %s', async (scenario, path, wanted) => {
    const { metadata, spec } = find(await render(scenario), 'Ingress', 'main-carrierarr-agents') as KubernetesObject & {
      spec: { rules: { http: { paths: { path: string; pathType: string }[] } }[] };
    };
    expect(spec.rules.flatMap(({ http }) => http.paths).map((each) => `${each.path} ${each.pathType}`)).toEqual([path]);
    const short = Object.fromEntries(
      Object.entries(metadata.annotations ?? {}).map(([key, value]) => [key.split('/').at(-1), value]),
    );
    for (const [key, value] of Object.entries(wanted)) expect(short[key]).toMatch(value);
  });

  test('tells Traefik how to speak to monitors', async () => {
    const schemeOf = async (values = {}) =>
      find(await render('traefik', values), 'Service', 'main-carrierarr-agents').metadata.annotations?.[
        'traefik.ingress.kubernetes.io/service.serversscheme'
      ];
    expect(await schemeOf()).toBe('https');
    expect(await schemeOf({ 'agents.grpc.tls': { existingSecret: '', atProxy: true } })).toBe('h2c');
  });

  test('routes to what agents call, and to nothing else of gRPC', async () => {
    const { spec } = find(await render('agents-route'), 'GRPCRoute', 'main-carrierarr-agents');
    const service = 'ec2agent.v1.AgentControl';
    expect(spec['rules']).toMatchObject([{ matches: [{ method: { type: 'Exact', service } }] }]);
    expect(readRepository('libs/protocol/proto/ec2agent/v1/agent.proto')).toMatch(
      /^package ec2agent\.v1;[^]*^service AgentControl \{/m,
    );
  });

  test('mounts certificates and tokens for agents whole, so that monitors see new ones, and restarts nothing', async () => {
    const { container, owner } = podOf(await render('agents-certificates'), 'monitor');
    const mounts = container.volumeMounts?.filter(({ name }) => name.startsWith('agents-')) ?? [];
    expect(mounts.map(({ name }) => name)).toEqual(['agents-tls', 'agents-ca', 'agents-tokens']);
    expect(mounts.filter((mount) => 'subPath' in mount)).toEqual([]);
    const sums = Object.keys(owner.spec.template?.metadata.annotations ?? {});
    expect(sums).toEqual(['checksum/config', 'checksum/redis']);
  });

  test("gives a monitor time to send its agents to the others, once it is out of their Service's sight", async () => {
    const graceOf = async (scenario: string) => {
      const { spec, container } = podOf(await render(scenario), 'monitor');
      return [spec.terminationGracePeriodSeconds, container.lifecycle?.preStop?.sleep?.seconds];
    };
    expect(await graceOf('default')).toEqual([30, undefined]);
    expect(await graceOf('agents-route')).toEqual([35, 5]);
    expect(await graceOf('agents-certificates')).toEqual([45, 15]);
  });

  test('has monitors trust the authority of RabbitMQ', async () => {
    const { container } = podOf(await render('agents-route'), 'monitor');
    expect(container.env).toContainEqual({
      ...{ name: 'NODE_EXTRA_CA_CERTS', value: '/etc/carrierarr/rabbitmq-ca/ca.crt' },
    });
    expect(container.env).toContainEqual({
      ...{ name: 'CARRIERARR_RABBITMQ_URL_FILE', value: '/etc/carrierarr/rabbitmq/url' },
    });
  });

  test('runs a command through /ws for helm test, with the token that it made', async () => {
    const { container } = podOf(await render(), 'test');
    expect(container.args?.join(' ')).toBe(
      'run --url http://main-carrierarr-gateway:80 --wait --timeout 60s --give-up-after 60s helm-test status',
    );
    const token = {
      name: 'CARRIERARR_TOKEN',
      valueFrom: { secretKeyRef: { name: 'main-carrierarr-auth', key: 'token' } },
    };
    expect(container.env).toEqual([token]);
  });

  test('has no helm test where it has no token for one', async () => {
    expect(podsOf(await render('gateway-api')).filter(({ owner }) => componentOf(owner) === 'test')).toEqual([]);
  });

  test('gives pods only the labels that select them, so that a new chart alone restarts nothing', async () => {
    for (const { labels, owner } of podsOf(await render())) {
      if (owner.kind !== 'Pod')
        expect(Object.keys(labels).filter((key) => /version|chart|managed/.test(key))).toEqual([]);
    }
  });

  test('hands on extra objects with their templates filled in', async () => {
    const objects = await render('extras');
    expect(find(objects, 'ConfigMap', 'main-more')).toBeDefined();
    expect(find(objects, 'ConfigMap', 'fleet-text')).toBeDefined();
  });

  test('names images by registry, tag and digest', async () => {
    const images = (objects: KubernetesObject[]) => podsOf(objects).map(({ spec }) => spec.containers[0]?.image);
    expect(images(await render('production-eks'))).toEqual([
      'registry.example/team/carrierarr-gateway:0.1.0',
      'registry.example/team/carrierarr-monitor:0.1.0',
      'registry.example/team/fleet-runner:2026-01',
      'registry.example/team/carrierarr-gateway:0.1.0',
    ]);
    expect(new Set(images(await render('extras')))).toContain('mirror.example/valkey/valkey:8.1');
    expect(images(await render('extras'))).toContain(`carrierarr-gateway@sha256:${'a'.repeat(64)}`);
  });
});
