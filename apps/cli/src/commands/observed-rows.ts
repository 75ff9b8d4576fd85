/** What monitors see, as rows of a table. Pure. */
import type { SeenWorker } from '@carrierarr/protocol';
import { age } from '../terminal/table.js';
import type { Columns } from './resource-rows.js';

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

function stateText({ gone_at: goneAt, interruption }: SeenWorker, state: string, nowMs: number): string {
  if (goneAt !== undefined) return `gone ${age(Date.parse(goneAt), nowMs)} ago`;
  return interruption === undefined ? state : `${state} (${interruption.kind})`;
}

function further(worker: SeenWorker): string[] {
  const { name, source, mapped_by: mappedBy, lifecycle, idle_seconds: idleSeconds, reason } = worker;
  const idle = idleSeconds === undefined ? '' : age(0, idleSeconds * 1000);
  return [name ?? '', source, mappedBy, lifecycle ?? '', idle, reason ?? ''];
}
