import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NodeStatus } from '@carrierarr/protocol/agent-control';
import { describe, expect, it } from 'vitest';
import { lookAtGpus as look, parseGpus } from '../../../apps/agent/src/status/gpus.js';
import { RepeatedProbe } from '../../../apps/agent/src/status/probe.js';
import { until } from '../../support/until.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

const lookAtGpus = (file: string, timeoutMs?: number) => look(new RepeatedProbe(file), timeoutMs);

async function program(text: string): Promise<string> {
  const path = join(temporaryFolder('agent-'), 'nvidia-smi');
  await writeFile(path, `#!/bin/sh\n${text}\n`);
  await chmod(path, 0o755);
  return path;
}

describe('what nvidia-smi says', () => {
  it('fits into a status whatever the figures are', () => {
    const lines = [
      '0, A10G, 1, 2, 3, 4294967295',
      `-7, ${'x'.repeat(5_000)}, -5, 1e300, 1e9, -1e9`,
      '1e300, A, 1e23, 1, 1, 1',
    ];
    const { gpus } = parseGpus(lines.join('\n'));
    const written = NodeStatus.encode(NodeStatus.fromPartial({ gpus })).finish();
    expect(NodeStatus.decode(written).gpus).toEqual(gpus);
    expect(gpus[0]).toMatchObject({ name: 'A10G', temperatureC: 1_000 });
    expect(gpus[1]?.name).toHaveLength(200);
  });

  it('is read GPU by GPU', () => {
    const csv = '0, NVIDIA A10G, 1234, 23028, 87, 61\n1, NVIDIA A10G, 0, 23028, 0, 30\n';
    expect(parseGpus(csv)).toEqual({
      isUnknown: false,
      gpus: [
        {
          ...{ index: 0, name: 'NVIDIA A10G', memoryUsedMb: 1234, memoryTotalMb: 23_028 },
          ...{ utilizationPercent: 87, temperatureC: 61 },
        },
        {
          ...{ index: 1, name: 'NVIDIA A10G', memoryUsedMb: 0, memoryTotalMb: 23_028 },
          ...{ utilizationPercent: 0, temperatureC: 30 },
        },
      ],
    });
  });

  it('counts as 0 where it does not know, and may have commas in names', () => {
    expect(parseGpus('0, Some, GPU, [N/A], 1000, 7, [N/A]\r\n')).toEqual({
      isUnknown: false,
      gpus: [
        {
          ...{ index: 0, name: 'Some, GPU', memoryUsedMb: 0, memoryTotalMb: 1000 },
          ...{ utilizationPercent: 7, temperatureC: 0 },
        },
      ],
    });
  });

  it.each(['[N/A]', '[Not Supported]', ''])('may be at work where it says %j of how busy one is', (utilization) => {
    const { gpus, isUnknown } = parseGpus(`0, A100, 1, 1000, 3, 40\n1, A100, 1, 1000, ${utilization}, 40\n`);
    expect(gpus.map(({ utilizationPercent }) => utilizationPercent)).toEqual([3, 0]);
    expect(isUnknown).toBe(true);
  });

  it('is not known if it is no table', () => {
    expect(parseGpus('something else\n')).toEqual({ gpus: [], isUnknown: true });
    expect(parseGpus('x, A100, 1, 1000, 3, 40\n')).toEqual({ gpus: [], isUnknown: true });
    expect(parseGpus('')).toEqual({ gpus: [], isUnknown: false });
  });

  it('is bounded', () => {
    const csv = Array.from({ length: 1000 }, (_, i) => `${i}, G, 1, 1, 1, 1`).join('\n');
    expect(parseGpus(csv).gpus).toHaveLength(64);
  });
});

describe('asking nvidia-smi', () => {
  it('finds no GPU where there is no such program', async () => {
    expect(await lookAtGpus('/nonexistent/nvidia-smi')).toEqual({ gpus: [] });
  });

  it('tells of a driver that fails', async () => {
    const report = await lookAtGpus(await program('echo "NVIDIA-SMI has failed" >&2; exit 9'));
    expect(report.gpus).toEqual([]);
    expect(report.problem).toContain('nvidia-smi: ');
    // There is no driver: nothing can use a GPU.
    expect(report.isUnknown).toBe(false);
  });

  it('does not take a failure for the absence of GPUs', async () => {
    expect(await lookAtGpus(await program('exit 255'))).toMatchObject({ gpus: [], isUnknown: true });
  });

  it('starts none while the one before has not ended', async () => {
    const started = join(temporaryFolder('agent-'), 'started');
    const probe = new RepeatedProbe(await program(`echo $$ >> ${started}; exec sleep 60`));
    const first = look(probe, 60_000);
    const pids = () =>
      readFile(started, 'utf8').then(
        (text) => text.trim().split('\n').map(Number),
        () => [],
      );
    const [pid] = await until('its start', async () => (await pids()).length > 0 && pids());
    for (let i = 0; i < 3; i++) {
      expect(await look(probe)).toEqual({
        ...{ gpus: [], problem: 'nvidia-smi: the one before has not ended yet', isUnknown: true },
      });
    }
    expect(await pids()).toHaveLength(1);
    process.kill(pid as number, 'SIGKILL');
    expect(await first).toMatchObject({ isUnknown: true });
    const second = look(probe, 60_000);
    const [, next] = await until('another', async () => (await pids()).length > 1 && pids());
    process.kill(next as number, 'SIGKILL');
    await second;
  });

  it('may start again after one that could not be started', async () => {
    const probe = new RepeatedProbe('/nonexistent/nvidia-smi');
    for (let i = 0; i < 2; i++) expect(await look(probe)).toEqual({ gpus: [] });
  });

  it('may start again after one whose start Node refuses', async () => {
    // A file where a folder should be: one of the errors that Node throws.
    const probe = new RepeatedProbe(join(await program(''), 'nvidia-smi'));
    for (let i = 0; i < 2; i++) {
      const { problem, isUnknown } = await look(probe);
      expect(problem).toContain('ENOTDIR');
      expect(isUnknown).toBe(true);
    }
  });

  it('does not wait for one that hangs', async () => {
    const beganMs = performance.now();
    const report = await lookAtGpus(await program('exec sleep 60'), 200);
    expect(report).toMatchObject({ problem: 'nvidia-smi: no answer within 0.2 s', isUnknown: true });
    expect(performance.now() - beganMs).toBeLessThan(5_000);
  });

  it('asks for what it reads, without header and units', async () => {
    const report = await lookAtGpus(await program('echo "0, $(echo $* | tr , -), 1, 2, 3, 4"'));
    expect(report.gpus[0]?.name).toBe(
      '--query-gpu=index-name-memory.used-memory.total-utilization.gpu-temperature.gpu --format=csv-noheader-nounits',
    );
  });
});
