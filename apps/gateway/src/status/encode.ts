/** The status as clients get it, each text made once for everybody. */
import type { SeenWorker, StatusPoint } from '@carrierarr/protocol';
import { jsonPiece, type Row } from './worker-rows.js';

const DOCUMENT_START = jsonPiece('{"workers":[');
const documentEnd = (timestamp: string) => jsonPiece(`],"timestamp":${JSON.stringify(timestamp)}}`);

/** Body of `GET /api/status`: a `StatusDocument`. */
export function documentText(rows: readonly Row[], timestamp: string): string {
  const each = rows.map(({ head, tail }) => head.plain + tail.plain);
  return DOCUMENT_START.plain + each.join(',') + documentEnd(timestamp).plain;
}

/** A `status` message: the document as a string in it. */
export function statusFrame(rows: readonly Row[], timestamp: string): Buffer {
  const each = rows.map(({ head, tail }) => head.escaped + tail.escaped);
  const data = DOCUMENT_START.escaped + each.join(',') + documentEnd(timestamp).escaped;
  return Buffer.from(`{"type":"status","timestamp":${JSON.stringify(timestamp)},"data":"${data}"}`);
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
