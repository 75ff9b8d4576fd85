/** GPUs, as nvidia-smi tells of them. */
import { FIGURES } from '@carrierarr/protocol';
import type { GPUStatus } from '@carrierarr/protocol/agent-control';
import type { RepeatedProbe } from './probe.js';

export interface GpuReport {
  gpus: GPUStatus[];
  /** Why they are not known though nvidia-smi is there. */
  problem?: string;
  /** There may be some, and they may be at work. */
  isUnknown?: boolean;
}

const FIELDS = ['index', 'name', 'memory.used', 'memory.total', 'utilization.gpu', 'temperature.gpu'];
const TIMEOUT_MS = 5_000;
const GPUS_MAX = 64;
const NAME_CHARS_MAX = 200;
/** No device, no driver, no library: nobody can use a GPU then. From `man nvidia-smi`, RETURN VALUE. */
const NO_GPU_CODES = new Set([6, 9, 12]);

/** None without nvidia-smi. Never rejects. */
export async function lookAtGpus(nvidiaSmi: RepeatedProbe, timeoutMs = TIMEOUT_MS): Promise<GpuReport> {
  const query = [`--query-gpu=${FIELDS.join(',')}`, '--format=csv,noheader,nounits'];
  const answer = await nvidiaSmi.run(query, timeoutMs);
  switch (answer.kind) {
    case 'ok':
      return parseGpus(answer.stdout);
    case 'absent':
      return { gpus: [] };
    case 'failed':
      return {
        ...{ gpus: [], problem: `nvidia-smi: ${answer.problem}` },
        isUnknown: answer.exitCode === undefined || !NO_GPU_CODES.has(answer.exitCode),
      };
  }
}

/**
 * Lines of nvidia-smi's CSV without header and units. What it does not know (`[N/A]`, `[Not Supported]`) counts as 0; how busy a
 * GPU is it does not know of one that is shared, as by MIG: that is unknown, as is a line that is none. What no machine has, such as
 * the 4294967295 °C of a driver that does not know, is bounded: it would fit into no status, and no status would be sent.
 */
export function parseGpus(csv: string): { gpus: GPUStatus[]; isUnknown: boolean } {
  const gpus: GPUStatus[] = [];
  let isUnknown = false;
  for (const line of csv.split(/\r?\n/)) {
    if (line.trim() === '') continue;
    const cells = line.split(',').map((cell) => cell.trim());
    const index = cells[0] === '' ? Number.NaN : Number(cells[0]);
    if (cells.length < FIELDS.length || !Number.isInteger(index)) {
      isUnknown = true;
      continue;
    }
    if (!isFigure(cells.at(-2) as string)) isUnknown = true;
    // A name may hold a comma; the figures are the last four.
    const [used, total, utilization, temperature] = cells.slice(-4).map(figure) as [number, number, number, number];
    gpus.push({
      ...{ index: FIGURES.gpus(index), name: cells.slice(1, -4).join(', ').slice(0, NAME_CHARS_MAX) },
      ...{ memoryUsedMb: FIGURES.megabytes(Math.round(used)), memoryTotalMb: FIGURES.megabytes(Math.round(total)) },
      ...{ utilizationPercent: FIGURES.percent(utilization), temperatureC: FIGURES.celsius(Math.round(temperature)) },
    });
    if (gpus.length === GPUS_MAX) break;
  }
  return { gpus, isUnknown };
}

const isFigure = (cell: string) => cell !== '' && Number.isFinite(Number(cell));

function figure(cell: string): number {
  return isFigure(cell) ? Number(cell) : 0;
}
