/** Nodes as rows of a table. Pure. */
import type { NodeBody } from '@carrierarr/protocol';
import { age } from '../terminal/table.js';
import type { Columns } from './resource-rows.js';

/** The columns of nodes; `wide` has some more. */
export function nodeColumns(isWide: boolean): Columns<NodeBody> {
  const header = ['NODE', 'TARGET', 'TYPE', 'STATE', 'STREAM', 'GPUS', 'MODELS', 'IDLE', 'SEEN'];
  return {
    header: isWide ? [...header, 'INSTANCE', 'NEBULA-IP', 'PUBLIC-IP', 'UPTIME', 'AGENT'] : header,
    row: (node, nowMs) => [...narrow(node, nowMs), ...(isWide ? further(node) : [])],
  };
}

/** `gpu-worker` of `NODE_TYPE_GPU_WORKER`. */
export function nodeTypeText(type: string): string {
  const name = type
    .replace(/^NODE_TYPE_/, '')
    .toLowerCase()
    .replaceAll('_', '-');
  return name === 'unspecified' ? '' : name;
}

function narrow(node: NodeBody, nowMs: number): string[] {
  const { id, target, type, liveness, draining, stream_active: isStreaming, last_seen: lastSeen } = node;
  return [
    ...[id, target, nodeTypeText(type), draining ? `${liveness} (draining)` : liveness, isStreaming ? 'yes' : 'no'],
    ...[countText(node.gpu_count), countText(node.loaded_models)],
    node.idle_since === undefined ? '' : age(Date.parse(node.idle_since), nowMs),
    `${age(Date.parse(lastSeen), nowMs)} ago`,
  ];
}

function further(node: NodeBody): string[] {
  const uptime = node.uptime_seconds === undefined ? '' : age(0, node.uptime_seconds * 1000);
  return [node.instance_id, node.nebula_ip, node.public_ip, uptime, node.agent_version ?? ''];
}

function countText(count: number | undefined): string {
  return count === undefined ? '' : String(count);
}
