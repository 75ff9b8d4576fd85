/** Use of CPU, memory and disk. Figures come from libuv, which reads /proc on Linux and asks the kernel elsewhere. */
import { statfs } from 'node:fs/promises';
import { cpus, freemem, totalmem, uptime } from 'node:os';
import type { ResourceUsage } from '@carrierarr/protocol/agent-control';

const MB = 1024 * 1024;

export interface CpuTimes {
  idle: number;
  total: number;
}

/** Share of time in which the CPUs were not idle between two looks, %. Of one look alone nothing is known: 0. */
export function cpuPercent(before: CpuTimes | undefined, now: CpuTimes): number {
  if (before === undefined) return 0;
  const total = now.total - before.total;
  if (total <= 0) return 0;
  return Math.min(100, Math.max(0, (100 * (total - (now.idle - before.idle))) / total));
}

function cpuTimes(): CpuTimes {
  let idle = 0;
  let total = 0;
  for (const { times } of cpus()) {
    idle += times.idle;
    total += times.user + times.nice + times.sys + times.idle + times.irq;
  }
  return { idle, total };
}

/** Looks at the machine; CPU use is that since the look before. */
export class UsageMeter {
  #before: CpuTimes | undefined = cpuTimes();
  readonly #disk: string;

  /** `disk`: a path on the file system that is reported. */
  constructor(disk = '/') {
    this.#disk = disk;
  }

  async look(): Promise<ResourceUsage> {
    const now = cpuTimes();
    const cpu = cpuPercent(this.#before, now);
    this.#before = now;
    const disk = await statfs(this.#disk).catch(() => undefined);
    const total = totalmem();
    return {
      cpuPercent: Math.round(cpu * 10) / 10,
      memoryUsedMb: Math.round((total - freemem()) / MB),
      memoryTotalMb: Math.round(total / MB),
      diskUsedMb: disk === undefined ? 0 : Math.round(((disk.blocks - disk.bfree) * disk.bsize) / MB),
      diskTotalMb: disk === undefined ? 0 : Math.round((disk.blocks * disk.bsize) / MB),
    };
  }
}

/** Of the machine, s. */
export function machineUptimeS(): number {
  return Math.floor(uptime());
}
