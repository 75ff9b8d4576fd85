/** What several parts do together: notices of EC2, the dead-man switch, and a machine whose clock stands still. */
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import os from 'node:os';
import { join } from 'node:path';
import { CommandEnd, HealthState, NodeType } from '@carrierarr/protocol/agent-control';
import { afterEach, expect, it, onTestFinished, vi } from 'vitest';
import { FakeClock } from '@carrierarr/platform';
import { until } from '../support/until.js';
import { endAgents, startAgent } from './support/agent-process.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { TestControlPlane } from './support/control-plane.js';
import { endServers, startServer } from './support/http-server.js';

let control: TestControlPlane | undefined;
afterEach(async () => {
  await endAgents();
  control?.stop();
  control = undefined;
  await endServers();
});

it('says at once that its instance will be taken away', async () => {
  let isTaken = false;
  const imds = await startServer((request, response) => {
    if (request.method === 'PUT') return void response.end('token');
    if (request.url?.endsWith('/instance-id')) return void response.end('i-0abc');
    if (isTaken && request.url?.endsWith('/spot/instance-action')) {
      return void response.end('{"action":"terminate","time":"2030-01-01T00:00:00Z"}');
    }
    return void response.writeHead(404).end();
  });
  control = await TestControlPlane.start();
  await startAgent({ flags: ['--control-plane', control.address, '--metadata', 'ec2', '--metadata-url', imds.url] });
  await control.connected();
  expect(control.registrations[0]).toMatchObject({ instanceId: 'i-0abc' });
  expect(control.statuses()[0]?.interruption).toBeUndefined();
  isTaken = true;
  const told = await until('the status', () =>
    control?.statuses().find(({ interruption }) => interruption !== undefined),
  );
  expect(told).toMatchObject({
    ...{ draining: true, health: HealthState.HEALTH_STATE_DEGRADED, instanceId: 'i-0abc' },
    interruption: { kind: 'spot', detail: 'terminate', at: new Date('2030-01-01T00:00:00Z') },
  });
});

it('registers anew, over its open stream, once a late metadata service says who it is', async () => {
  let isThere = false;
  const imds = await startServer((request, response) => {
    if (!isThere) return void response.writeHead(503).end();
    if (request.method === 'PUT') return void response.end('token');
    if (request.url?.endsWith('/instance-id')) return void response.end('i-0abc');
    if (request.url?.endsWith('/spot/instance-action')) return void response.end('{"action":"stop"}');
    return void response.writeHead(404).end();
  });
  control = await TestControlPlane.start();
  const { registrations, streams } = control;
  const newest = () => control?.statuses().at(-1);
  const clock = new FakeClock();
  const flags = ['--control-plane', control.address, '--metadata', 'ec2', '--metadata-url', imds.url];
  const agent = await startAgent({ flags, clock });
  await control.connected();
  expect(registrations).toMatchObject([{ nodeId: 'node-1', instanceId: '' }]);
  expect(agent.logs()).toContain('the metadata service does not say who this machine is');
  isThere = true;
  await until('the instance id in a status', async () => {
    await clock.advanceAsync(1_000);
    return newest()?.instanceId === 'i-0abc';
  });
  expect(registrations).toMatchObject([{ instanceId: '' }, { nodeId: 'node-1', instanceId: 'i-0abc' }]);
  expect(streams).toHaveLength(1);
  await until('a notice', async () => {
    await clock.advanceAsync(1_000);
    return newest()?.interruption?.kind === 'spot';
  });
});

it('powers the machine off when it is idle, though there is no control plane', async () => {
  const folder = temporaryFolder('agent-');
  const off = join(folder, 'off');
  const clock = new FakeClock();
  const agent = await startAgent({
    flags: ['--idle-shutdown', '30m', '--shutdown-command', `touch ${off}`, '--idle-connections=false'],
    clock,
  });
  const isOff = () =>
    readFile(off).then(
      () => true,
      () => false,
    );
  const looks = async (minutes: number) => {
    for (let i = 0; i < minutes * 4; i++) await clock.advanceAsync(15_000);
  };
  await looks(29);
  expect(await isOff()).toBe(false);
  // Looks take real time, as they ask real services.
  await until('the machine to be off', async () => {
    await clock.advanceAsync(15_000);
    return isOff();
  });
  expect(agent.logs()).toContain('idle for too long: powering off');
});

it('is a GPU worker once its GPUs are seen, also if that is after its start, and stays one', async () => {
  const works = join(temporaryFolder('agent-'), 'works');
  const nvidiaSmi = join(temporaryFolder('agent-'), 'nvidia-smi');
  await writeFile(nvidiaSmi, `#!/bin/sh\n[ -e ${works} ] && echo "0, A10, 1, 2, 0, 30" || exit 9\n`, { mode: 0o755 });
  const plane = await TestControlPlane.start();
  control = plane;
  const clock = new FakeClock();
  await startAgent({ flags: ['--control-plane', plane.address, '--nvidia-smi', nvidiaSmi], clock });
  await plane.connected();
  expect(plane.registrations.at(-1)?.nodeType).toBe(NodeType.NODE_TYPE_CPU_WORKER);
  await writeFile(works, '');
  await until('its registration as a GPU worker', async () => {
    await clock.advanceAsync(15_000);
    return plane.registrations.at(-1)?.nodeType === NodeType.NODE_TYPE_GPU_WORKER;
  });
  expect(plane.registrations.at(-1)?.capabilities).toMatchObject({ hasGpu: true, gpuCount: 1, gpuModel: 'A10' });
  // Over the stream that it had.
  expect(plane.streams).toHaveLength(1);
  const count = plane.registrations.length;
  await rm(works);
  await until('a status without GPUs', async () => {
    await clock.advanceAsync(15_000);
    return plane.statuses().at(-1)?.gpus.length === 0;
  });
  expect(plane.registrations).toHaveLength(count);
});

it('says its address in the Nebula network once it has one, and again when that is another', async () => {
  const addresses = vi.spyOn(os, 'networkInterfaces');
  const isUpAs = (address?: string) => {
    const up = { netmask: '255.255.255.0', family: 'IPv4', mac: '', internal: false, cidr: null } as const;
    addresses.mockReturnValue(address === undefined ? {} : { nebula1: [{ ...up, address }] });
    syncBuiltinESMExports();
  };
  onTestFinished(() => {
    addresses.mockRestore();
    syncBuiltinESMExports();
  });
  isUpAs();
  const plane = await TestControlPlane.start();
  control = plane;
  const clock = new FakeClock();
  await startAgent({ flags: ['--control-plane', plane.address], clock });
  await plane.connected();
  expect(plane.registrations.at(-1)?.nebulaIp).toBe('');
  for (const address of ['10.42.0.7', '10.42.0.8']) {
    isUpAs(address);
    await until(`its registration with ${address}`, async () => {
      await clock.advanceAsync(15_000);
      return plane.registrations.at(-1)?.nebulaIp === address;
    });
  }
  // Away for a moment: it is said again when it is there.
  isUpAs();
  const count = plane.statuses().length;
  await until('a status', async () => {
    await clock.advanceAsync(15_000);
    return plane.statuses().length > count;
  });
  expect(plane.registrations.map(({ nebulaIp }) => nebulaIp)).toEqual(['', '10.42.0.7', '10.42.0.8']);
  expect(plane.streams).toHaveLength(1);
});

it('does not power a machine off whose GPUs cannot be asked, says so, and does once they can', async () => {
  const folder = temporaryFolder('agent-');
  const [off, works, looks] = [join(folder, 'off'), join(folder, 'works'), join(folder, 'looks')];
  const nvidiaSmi = join(folder, 'nvidia-smi');
  const script = `echo look >> ${looks}; [ -e ${works} ] && echo "0, A10, 1, 2, 0, 30" || exit 255`;
  await writeFile(nvidiaSmi, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const clock = new FakeClock();
  const own = ['--idle-shutdown', '5m', '--shutdown-command', `touch ${off}`, '--idle-connections=false'];
  const agent = await startAgent({ flags: [...own, '--nvidia-smi', nvidiaSmi], clock });
  const looked = async () => (await readFile(looks, 'utf8')).split('\n').length - 1;
  // Each takes real time, as it asks a real program.
  await until('looks for twice that time', async () => {
    await clock.advanceAsync(15_000);
    return (await looked()) > 40;
  });
  expect(existsSync(off)).toBe(false);
  expect(agent.problems()).toEqual(['It cannot be told whether the machine is idle (gpu), so it is not powered off.']);
  await writeFile(works, '');
  await until('the machine to be off', async () => {
    await clock.advanceAsync(15_000);
    return existsSync(off);
  });
  expect(agent.problems()).toEqual([]);
});

it.runIf(existsSync('/proc/self'))(
  'works in a state folder that cannot be written but for commands, which it takes once it can',
  async () => {
    const parent = temporaryFolder('agent-');
    const [stateDir, real] = [join(parent, 'state'), join(parent, 'real')];
    // Nobody can make a file there, not even root.
    await symlink('/proc', stateDir);
    await mkdir(real);
    const off = join(parent, 'off');
    control = await TestControlPlane.start();
    const clock = new FakeClock();
    const own = ['--idle-shutdown', '30m', '--shutdown-command', `touch ${off}`, '--idle-connections=false'];
    const flags = ['--control-plane', control.address, '--allow-exec', '*', ...own];
    const agent = await startAgent({ flags, stateDir, clock });
    await control.connected();
    control.command({ commandId: 'c1', argv: ['true'] });
    const refused = await control.result('c1');
    expect(refused).toMatchObject({ end: CommandEnd.COMMAND_END_REFUSED });
    expect(refused.error).toMatch(/cannot be noted in the state folder: .*--state-dir/);
    expect(agent.problems()).toMatchObject([expect.stringContaining(`The state folder ${stateDir} cannot be used`)]);
    expect(agent.logs()).toContain('commands are refused until it can');
    // Looks take real time, as they ask real services.
    await until('the machine to be off', async () => {
      await clock.advanceAsync(15_000);
      return existsSync(off);
    });
    await rm(stateDir);
    await symlink(real, stateDir);
    await until('the folder to be used', async () => {
      await clock.advanceAsync(1_000);
      return agent.problems().length === 0;
    });
    control.command({ commandId: 'c2', argv: ['true'] });
    expect(await control.result('c2')).toMatchObject({ end: CommandEnd.COMMAND_END_EXITED });
    expect(existsSync(join(real, 'commands.jsonl'))).toBe(true);
  },
);

it.runIf(existsSync('/dev/full'))(
  'powers an idle machine off though its disk is full, and says why it takes no commands',
  async () => {
    const stateDir = temporaryFolder('agent-');
    const off = join(temporaryFolder('agent-'), 'off');
    await symlink('/dev/full', join(stateDir, 'commands.jsonl.next'));
    await symlink('/dev/full', join(stateDir, 'idle.json.next'));
    control = await TestControlPlane.start();
    const clock = new FakeClock();
    const own = ['--idle-shutdown', '30m', '--shutdown-command', `touch ${off}`, '--idle-connections=false'];
    const flags = ['--control-plane', control.address, '--allow-exec', '*', ...own];
    await startAgent({ flags, stateDir, clock });
    await control.connected();
    control.command({ commandId: 'c1', argv: ['true'] });
    const refused = await control.result('c1');
    expect(refused).toMatchObject({ end: CommandEnd.COMMAND_END_REFUSED });
    expect(refused.error).toMatch(/cannot be noted in the state folder: .*ENOSPC/);
    // Looks take real time, as they ask real services.
    await until('the machine to be off', async () => {
      await clock.advanceAsync(15_000);
      return existsSync(off);
    });
  },
);
