/** What single values do to the objects. */
import { describe, expect, test } from 'vitest';
import { helm, helmMissing } from '../../support/deploy-tools.js';
import {
  componentOf,
  COMPONENTS,
  find,
  type KubernetesObject,
  podOf,
  podsOf,
  render,
  renderArguments,
} from './chart.js';

const secretText = (object: KubernetesObject, key: string): string =>
  Buffer.from(object.data?.[key] ?? '', 'base64').toString();
const annotation = (objects: KubernetesObject[], component: string, name: string): string | undefined =>
  podOf(objects, component).owner.spec.template?.metadata.annotations?.[name];

describe.skipIf(helmMissing !== undefined).concurrent('the chart', () => {
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

  test('routes from outside to /ws, the API and the page, not to metrics and probes', async () => {
    const ingress = find(await render('nginx'), 'Ingress', 'main-carrierarr-gateway').spec as {
      rules?: { http: { paths: { path: string; pathType: string }[] } }[];
    };
    const paths = [
      ['/ws', 'Exact'],
      ['/', 'Exact'],
      ['/api', 'Prefix'],
    ];
    expect(ingress.rules?.[0]?.http.paths.map(({ path, pathType }) => [path, pathType])).toEqual(paths);
    const route = find(await render('gateway-api'), 'HTTPRoute', 'main-carrierarr-gateway').spec as {
      rules?: { matches: { path: { type: string; value: string } }[]; timeouts?: unknown }[];
    };
    expect(route.rules?.map(({ matches }) => matches.map(({ path }) => `${path.type} ${path.value}`))).toEqual([
      ['Exact /ws'],
      ['Exact /', 'PathPrefix /api'],
    ]);
    expect(route.rules?.map(({ timeouts }) => timeouts)).toEqual([{ request: '0s' }, undefined]);
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
