/** What is known of the machine of a Worker, out of the status as this gateway has it. */
import type { SeenWorker, SourceReport, WorkerResource } from '@carrierarr/protocol';
import { isCloudSource, isMachineOf, type Observation, observationOf } from '@carrierarr/reconcile';

export interface Seen {
  workers: readonly SeenWorker[];
  sources: readonly SourceReport[];
}

/** Which clouds are polled only the leader knows: here they are those that have ever reported. */
export function observationIn({ workers, sources }: Seen, worker: WorkerResource, nowMs: number): Observation {
  const records = workers.filter((record) => isMachineOf(worker, record));
  const view = {
    clouds: () => sources.map(({ source }) => source).filter(isCloudSource),
    report: (name: string) => sources.find(({ source }) => source === name),
    toldAtMs: ({ observed_at }: SeenWorker) => Date.parse(observed_at),
  };
  return observationOf(worker, records, view, nowMs);
}
