/** What monitors see, as rows of a table. Pure. */
import type { OrphansBody } from '@carrierarr/protocol';
import type { Observed } from '../client/resource-api.js';
import { age } from '../terminal/table.js';
import type { Columns } from './resource-rows.js';

type SeenWorker = Observed['workers'][number];

/** The columns of observed workers; `wide` has some more. */
export function observedColumns(isWide: boolean): Columns<SeenWorker> {
  const header = ['TARGET', 'ID', 'PROVIDER', 'STATE', 'TYPE', 'IP', 'SEEN'];
  return {
    header: isWide ? [...header, 'NAME', 'SOURCE', 'MAPPED-BY', 'LIFECYCLE', 'IDLE', 'REASON'] : header,
    row: (worker, nowMs) => [...narrow(worker, nowMs), ...(isWide ? further(worker) : [])],
  };
}

function narrow(worker: SeenWorker, nowMs: number): string[] {
  const { target, id, provider, state, instance_type: type, public_ip: publicIp, private_ip: privateIp } = worker;
  const seen = `${age(Date.parse(worker.observed_at), nowMs)} ago${worker.stale === true ? ' (stale)' : ''}`;
  return [target, id, provider, stateText(worker, state, nowMs), type ?? '', publicIp ?? privateIp ?? '', seen];
}

function stateText(worker: SeenWorker, state: string, nowMs: number): string {
  const { gone_at: goneAt, interruption, orphaned_since: orphanedSince } = worker;
  if (goneAt !== undefined) return `gone ${age(Date.parse(goneAt), nowMs)} ago`;
  const notes = [interruption?.kind ?? '', orphanedSince === undefined ? '' : 'orphan'].filter(Boolean);
  return notes.length === 0 ? state : `${state} (${notes.join(', ')})`;
}

function further(worker: SeenWorker): string[] {
  const { name, source, mapped_by: mappedBy, lifecycle, idle_seconds: idleSeconds, reason } = worker;
  const idle = idleSeconds === undefined ? '' : age(0, idleSeconds * 1000);
  return [name ?? '', source, mappedBy, lifecycle ?? '', idle, reason ?? ''];
}

type Orphan = OrphansBody['items'][number];

/** The columns of machines that belong to no Worker. */
export function orphanColumns(isWide: boolean): Columns<Orphan> {
  const header = ['TARGET', 'ID', 'SOURCE', 'STATE', 'TYPE', 'SINCE', 'TERMINATION'];
  return {
    header: isWide ? [...header, 'NAME', 'MAPPED-BY', 'EXECUTION', 'WHY'] : header,
    row: (orphan, nowMs) => {
      const {
        target,
        id,
        source,
        state,
        instance_type: type,
        since,
        termination,
        stale,
        terminate_after: after,
      } = orphan;
      const seen = `${state}${stale === true ? ' (stale)' : ''}`;
      const leftMs = after === undefined ? 0 : Date.parse(after) - nowMs;
      const fate = leftMs > 0 ? `${termination}, ${age(0, leftMs)} at least` : termination;
      const row = [target, id, source, seen, type ?? '', `${age(Date.parse(since), nowMs)} ago`, fate];
      const { name = '', mapped_by: mappedBy, execution = '', message } = orphan;
      return isWide ? [...row, name, mappedBy, execution, message] : row;
    },
  };
}
