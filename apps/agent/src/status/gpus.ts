/** GPUs, as nvidia-smi tells of them. */
import type { GPUStatus } from '@carrierarr/protocol/agent-control';
import { probe } from './probe.js';

export interface GpuReport {
  gpus: GPUStatus[];
  /** Why they are not known though nvidia-smi is there. */
  problem?: string;
}

const FIELDS = ['index', 'name', 'memory.used', 'memory.total', 'utilization.gpu', 'temperature.gpu'];
const TIMEOUT_MS = 5_000;
const GPUS_MAX = 64;

/** None without nvidia-smi. Never rejects. */
export async function lookAtGpus(nvidiaSmi: string, timeoutMs = TIMEOUT_MS): Promise<GpuReport> {
  const query = [`--query-gpu=${FIELDS.join(',')}`, '--format=csv,noheader,nounits'];
  const answer = await probe(nvidiaSmi, query, timeoutMs);
  switch (answer.kind) {
    case 'ok':
      return { gpus: parseGpus(answer.stdout) };
    case 'absent':
      return { gpus: [] };
    case 'failed':
      return { gpus: [], problem: `nvidia-smi: ${answer.problem}` };
  }
}

/** Lines of nvidia-smi's CSV without header and units. What it does not know (`[N/A]`, `[Not Supported]`) counts as 0. */
export function parseGpus(csv: string): GPUStatus[] {
  const gpus: GPUStatus[] = [];
  for (const line of csv.split(/\r?\n/)) {
    const cells = line.split(',').map((cell) => cell.trim());
    if (cells.length < FIELDS.length) continue;
    const index = Number(cells[0]);
    if (!Number.isInteger(index) || cells[0] === '') continue;
    // A name may hold a comma; the figures are the last four.
    const [used, total, utilization, temperature] = cells.slice(-4).map(figure) as [number, number, number, number];
    gpus.push({
      ...{ index, name: cells.slice(1, -4).join(', ') },
      ...{ memoryUsedMb: Math.round(used), memoryTotalMb: Math.round(total) },
      ...{ utilizationPercent: utilization, temperatureC: Math.round(temperature) },
    });
    if (gpus.length === GPUS_MAX) break;
  }
  return gpus;
}

function figure(cell: string): number {
  const value = Number(cell);
  return Number.isFinite(value) ? value : 0;
}
