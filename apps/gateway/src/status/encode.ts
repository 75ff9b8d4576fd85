/** The status as clients get it, each text made once for everybody. */
import type { SeenWorker, StatusDocument, StatusPoint } from '@carrierarr/protocol';

/** Body of `GET /api/status`. */
export function documentText(workers: SeenWorker[], timestamp: string): string {
  return JSON.stringify({ workers, timestamp } satisfies StatusDocument);
}

/** A `status` message: the document as a string in it. */
export function statusFrame(document: string, timestamp: string): Buffer {
  return Buffer.from(JSON.stringify({ type: 'status', timestamp, data: document }));
}

export interface WorkersChange extends StatusPoint {
  full: boolean;
  workers: SeenWorker[];
  removed: string[];
}

/** A `workers` message. */
export function workersFrame({ epoch, version, full, workers, removed }: WorkersChange, timestamp: string): Buffer {
  return Buffer.from(JSON.stringify({ type: 'workers', timestamp, epoch, version, full, workers, removed }));
}
