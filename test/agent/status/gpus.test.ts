import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { lookAtGpus, parseGpus } from '../../../apps/agent/src/status/gpus.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

async function program(text: string): Promise<string> {
  const path = join(temporaryFolder('agent-'), 'nvidia-smi');
  await writeFile(path, `#!/bin/sh\n${text}\n`);
  await chmod(path, 0o755);
  return path;
}

describe('what nvidia-smi says', () => {
  it('is read GPU by GPU', () => {
    const csv = '0, NVIDIA A10G, 1234, 23028, 87, 61\n1, NVIDIA A10G, 0, 23028, 0, 30\n';
    expect(parseGpus(csv)).toEqual([
      {
        ...{ index: 0, name: 'NVIDIA A10G', memoryUsedMb: 1234, memoryTotalMb: 23_028 },
        ...{ utilizationPercent: 87, temperatureC: 61 },
      },
      {
        ...{ index: 1, name: 'NVIDIA A10G', memoryUsedMb: 0, memoryTotalMb: 23_028 },
        ...{ utilizationPercent: 0, temperatureC: 30 },
      },
    ]);
  });

  it('counts as 0 where it does not know, and may have commas in names', () => {
    expect(parseGpus('0, Some, GPU, [N/A], 1000, [Not Supported], [N/A]\r\n')).toEqual([
      {
        ...{ index: 0, name: 'Some, GPU', memoryUsedMb: 0, memoryTotalMb: 1000 },
        ...{ utilizationPercent: 0, temperatureC: 0 },
      },
    ]);
  });

  it('is nothing if it is no table', () => {
    expect(parseGpus('No devices were found\n')).toEqual([]);
    expect(parseGpus('')).toEqual([]);
  });

  it('is bounded', () => {
    const csv = Array.from({ length: 1000 }, (_, i) => `${i}, G, 1, 1, 1, 1`).join('\n');
    expect(parseGpus(csv)).toHaveLength(64);
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
  });

  it('does not wait for one that hangs', async () => {
    const beganMs = performance.now();
    const report = await lookAtGpus(await program('exec sleep 60'), 200);
    expect(report.problem).toBe('nvidia-smi: no answer within 0.2 s');
    expect(performance.now() - beganMs).toBeLessThan(5_000);
  });

  it('asks for what it reads, without header and units', async () => {
    const report = await lookAtGpus(await program('echo "0, $(echo $* | tr , -), 1, 2, 3, 4"'));
    expect(report.gpus[0]?.name).toBe(
      '--query-gpu=index-name-memory.used-memory.total-utilization.gpu-temperature.gpu --format=csv-noheader-nounits',
    );
  });
});
