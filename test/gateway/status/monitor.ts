/** A leading monitor, as far as the status goes: it publishes what the test says it saw. */
import type { Keys, SourceReport, WorkerRecord } from '@carrierarr/protocol';
import { Leadership, type RedisConnection, WorkerStatusStore } from '@carrierarr/store';

export const SOURCE = 'ec2/eu-central-1';

/** A record as a monitor writes it. */
export function workerRecord(id: string, more: Partial<WorkerRecord> = {}): WorkerRecord {
  return {
    ...{ id, name: `name of ${id}`, provider: 'ec2', state: 'running' },
    ...{ target: id, mapped_by: 'id', source: SOURCE },
    ...more,
  };
}

export class TestMonitor {
  readonly #store: WorkerStatusStore;
  readonly #leadership: Leadership;
  /** Epoch ms: when it polls. */
  nowMs: () => number = Date.now;

  /** The connection must know our scripts. */
  constructor(connection: RedisConnection, keys: Keys) {
    this.#store = new WorkerStatusStore({ connection, keys });
    this.#leadership = new Leadership({ connection, keys });
  }

  report(more: Partial<SourceReport> = {}): SourceReport {
    const polled_at = new Date(this.nowMs()).toISOString();
    return { ...{ source: SOURCE, ok: true, polled_at, interval_ms: 30_000, calls: 1, workers: 0 }, ...more };
  }

  /** Publishes a poll; returns the new version. */
  async publish(
    change: { upserts?: WorkerRecord[]; removed?: string[]; report?: SourceReport; seen?: Record<string, number> } = {},
  ): Promise<number> {
    const held = await this.#leadership.hold('test-monitor');
    if (!held.leads) throw new Error(`${held.holder} leads`);
    return this.#store.publish(held.fence, { upserts: [], removed: [], report: this.report(), ...change });
  }
}
