/** Desired state restored into an empty Redis, while the machines run: each is adopted, and none is made beside it. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { fleetOf } from '../support/fleet.js';
import { Installation } from '../support/installation.js';
import { startProgram, WORKSPACE } from '../support/programs.js';
import { until } from '../support/until.js';

test('a pool with gaps in its ordinals and a worker come back after Redis lost all, and no machine is started', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'carrierarr-backup-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const it = await Installation.start({
    ...{ gateways: 1, runners: 1, monitors: 1 },
    script: join(WORKSPACE, 'test/fixtures/fleet-worker.sh'),
    scriptEnv: { MOCK_WORKER_SPEED: '0' },
  });
  const fleet = fleetOf(it.redis);
  const carrierarr = async (...args: string[]) => {
    const program = startProgram({ name: args[0] ?? '', args: [...args, '--url', it.gateway(0).url] });
    const { code } = await program.ended;
    return { code, stdout: program.stdout(), output: program.output() };
  };
  await fleet.worker('solo');
  await fleet.pool('gpu', { replicas: 2 });
  await fleet.settled(['gpu-0', 'gpu-1', 'solo'], 'Running');
  await fleet.pool('gpu', { replicas: 4 });
  await fleet.settled(['gpu-0', 'gpu-1', 'gpu-2', 'gpu-3', 'solo'], 'Running');
  await fleet.pool('gpu', { replicas: 2, scaleIn: 'oldest' });
  const left = await until('two workers to be left', async () => {
    const names = (await fleet.workers()).map(({ metadata }) => metadata.name).filter((name) => name !== 'solo');
    return names.length === 2 && names;
  });
  // Not those that a pool makes by itself.
  expect(left).not.toContain('gpu-0');
  await fleet.settled([...left, 'solo'], 'Running');
  const backup = await carrierarr('export');
  expect(backup.code).toBe(0);
  await writeFile(join(folder, 'backup.yaml'), backup.stdout);

  const testimony = async () => (await readFile(join(it.folder, 'commands'), 'utf8')).split('\n');
  const before = await testimony();
  const [monitor] = it.monitors;
  if (monitor === undefined) throw new Error('There is no monitor.');
  it.retire(monitor);
  await monitor.stop();
  await it.redis.client().flushall();
  const restored = await carrierarr('import', '-f', join(folder, 'backup.yaml'));
  expect(restored).toMatchObject({ code: 0 });
  await it.addMonitor();
  await fleet.settled([...left, 'solo'].toSorted(), 'Running');
  expect(await testimony()).toEqual(before);
  expect(await fleet.executions()).toEqual([]);
});
