import { chmod, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { HealthState, ServiceState } from '@carrierarr/protocol/agent-control';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { healthOfNode } from '../../../apps/agent/src/status/health.js';
import { checkService, unitStatus } from '../../../apps/agent/src/status/service-check.js';
import { parseServiceSpec, printServiceSpec } from '../../../apps/agent/src/status/service-spec.js';
import { temporaryFolder } from '../../support/temporary-folder.js';
import { endServers, startServer } from '../support/http-server.js';

afterEach(async () => {
  vi.unstubAllEnvs();
  await endServers();
});

const S = {
  running: ServiceState.SERVICE_STATE_RUNNING,
  stopped: ServiceState.SERVICE_STATE_STOPPED,
  starting: ServiceState.SERVICE_STATE_STARTING,
  error: ServiceState.SERVICE_STATE_ERROR,
  absent: ServiceState.SERVICE_STATE_NOT_INSTALLED,
};

describe('the words of a check', () => {
  it.each([
    ['k3s=systemd:k3s|k3s-agent', { name: 'k3s', kind: 'systemd', what: 'k3s|k3s-agent' }],
    ['web=http://127.0.0.1:80/health', { name: 'web', kind: 'http', what: 'http://127.0.0.1:80/health' }],
    ['db=tcp:[::1]:5432', { name: 'db', kind: 'tcp', what: '[::1]:5432' }],
    ['liqo=interface:liqo*', { name: 'liqo', kind: 'interface', what: 'liqo*' }],
  ])('are read and written: %s', (text, spec) => {
    expect(parseServiceSpec(text)).toEqual(spec);
    expect(parseServiceSpec(printServiceSpec(spec as never))).toEqual(spec);
  });

  it.each([
    '',
    'k3s',
    '=systemd:k3s',
    'a=systemd:',
    'a=systemd:x;rm',
    'a=tcp:host',
    'a=http:nonsense',
    'a=ftp:x',
    'a=interface:../x',
  ])('are refused: %j', (text) => expect(parseServiceSpec(text)).toBeUndefined());
});

describe('a systemd unit', () => {
  it.each([
    ['LoadState=loaded\nActiveState=active\nSubState=running\nActiveEnterTimestampMonotonic=5000000\n', S.running, 95],
    ['LoadState=loaded\nActiveState=activating\nSubState=auto-restart\n', S.starting, 0],
    ['LoadState=loaded\nActiveState=failed\nSubState=failed\n', S.error, 0],
    ['LoadState=loaded\nActiveState=inactive\nSubState=dead\n', S.stopped, 0],
    ['LoadState=not-found\nActiveState=inactive\nSubState=dead\n', S.absent, 0],
  ])('is as systemctl says: %j', (text, state, uptimeSeconds) => {
    expect(unitStatus(text, [100, 0])).toMatchObject({ state, uptimeSeconds });
  });

  it('of several is the first that is installed', async () => {
    const folder = temporaryFolder('agent-');
    const found = 'LoadState=loaded\\nActiveState=active\\nSubState=running';
    const script = `for unit; do :; done\nif [ "$unit" = k3s-agent ]; then printf '${found}\\n'; else echo LoadState=not-found; fi`;
    await writeFile(join(folder, 'systemctl'), `#!/bin/sh\n${script}\n`);
    await chmod(join(folder, 'systemctl'), 0o755);
    vi.stubEnv('PATH', `${folder}:${process.env['PATH']}`);
    const look = (what: string) => checkService({ name: 'k3s', kind: 'systemd', what });
    expect((await look('k3s|k3s-agent')).state).toBe(S.running);
    expect((await look('k3s|other')).state).toBe(S.absent);
  });
});

describe('a service that is asked', () => {
  it('by HTTP runs if it answers well', async () => {
    const server = await startServer(
      (request, response) => void response.writeHead(request.url === '/good' ? 200 : 503).end(),
    );
    expect((await checkService({ name: 'a', kind: 'http', what: `${server.url}/good` })).state).toBe(S.running);
    expect(await checkService({ name: 'a', kind: 'http', what: `${server.url}/bad` })).toMatchObject({
      ...{ state: S.error, message: 'answered 503' },
    });
  });

  it('by HTTP is late when it hangs, and stopped when nobody listens', async () => {
    const server = await startServer(() => undefined);
    expect(await checkService({ name: 'a', kind: 'http', what: server.url }, 100)).toMatchObject({
      ...{ state: S.error, message: 'no answer within 0.1 s' },
    });
    await server.stop();
    expect((await checkService({ name: 'a', kind: 'http', what: server.url })).state).toBe(S.stopped);
    expect((await checkService({ name: 'a', kind: 'http', what: server.url, isOptional: true })).state).toBe(S.absent);
  });

  it('by TCP runs if it takes the connection', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    const what = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    expect((await checkService({ name: 'a', kind: 'tcp', what })).state).toBe(S.running);
    await new Promise((resolve) => void server.close(resolve));
    expect((await checkService({ name: 'a', kind: 'tcp', what })).state).toBe(S.stopped);
  });

  it('by its interface runs if that is up', async () => {
    expect((await checkService({ name: 'a', kind: 'interface', what: 'lo' })).state).toBe(S.running);
    expect((await checkService({ name: 'a', kind: 'interface', what: 'none|l*' })).state).toBe(S.running);
    expect((await checkService({ name: 'a', kind: 'interface', what: 'nebula1' })).state).toBe(S.absent);
  });
});

describe('the health of a node', () => {
  const service = (state: ServiceState, isOptional = false) => ({
    isOptional,
    status: { state, message: '', uptimeSeconds: 0 },
  });
  const well = {
    ...{
      services: [],
      needsOllama: false,
      hasOllama: false,
      hasGpuProblem: false,
      isLeaving: false,
      diskUsedShare: 0.5,
    },
  };

  it.each([
    ['nothing is watched', {}, 'HEALTHY'],
    ['what is optional is not installed', { services: [service(S.absent, true)] }, 'HEALTHY'],
    ['what is optional is broken', { services: [service(S.error, true), service(S.running)] }, 'DEGRADED'],
    ['what was asked for is not installed', { services: [service(S.absent), service(S.running)] }, 'DEGRADED'],
    ['nothing runs that should', { services: [service(S.stopped), service(S.error)] }, 'UNHEALTHY'],
    ['a GPU worker has no Ollama', { needsOllama: true }, 'DEGRADED'],
    ['its GPUs do not answer', { hasGpuProblem: true }, 'DEGRADED'],
    ['it is going to be taken away', { isLeaving: true }, 'DEGRADED'],
    ['its disk is full', { diskUsedShare: 0.99 }, 'UNHEALTHY'],
  ])('if %s: %o is %s', (_why, facts, health) => {
    expect(healthOfNode({ ...well, ...facts })).toBe(HealthState[`HEALTH_STATE_${health}` as never]);
  });
});
