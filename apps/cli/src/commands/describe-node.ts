/** The text of `carrierarr describe node`. Pure. */
import type { Execution, NodeDetailBody } from '@carrierarr/protocol';
import { facts, section } from '../terminal/facts.js';
import { age, table } from '../terminal/table.js';
import { executionsTable } from './executions-table.js';
import { nodeTypeText } from './node-rows.js';
import { labelsText } from './resource-rows.js';

/** Ends with a newline. `executions`: the newest of its target; undefined where the gateway could not say. */
export function describeNodeText(
  node: NodeDetailBody,
  executions: readonly Execution[] | undefined,
  nowMs: number,
): string {
  const { gpus = [], models = [], services = {} } = node;
  return [
    headText(node, nowMs),
    section('State', stateText(node, nowMs)),
    ...(gpus.length === 0 ? [] : [section('GPUs', gpusText(gpus))]),
    ...(models.length === 0 ? [] : [section('Models', modelsText(models))]),
    ...(Object.keys(services).length === 0 ? [] : [section('Services', servicesText(services))]),
    ...(executions === undefined
      ? []
      : [section('Last executions', executions.length === 0 ? 'None.\n' : executionsTable(executions, nowMs))]),
  ].join('');
}

function headText(node: NodeDetailBody, nowMs: number): string {
  return facts([
    ['Node', node.id],
    ['Target', node.target],
    ['Type', orNone(nodeTypeText(node.type))],
    ['Instance', orNone(node.instance_id)],
    ['Labels', labelsText(node.labels) || 'none'],
    ['Region', orNone([node.region, node.az].filter(Boolean).join(', '))],
    ['Nebula IP', orNone(node.nebula_ip)],
    ['Public IP', orNone(node.public_ip)],
    ['Agent', node.agent_version],
    ['Since', `${node.connected_at} (${age(Date.parse(node.connected_at), nowMs)} ago)`],
  ]);
}

function stateText(node: NodeDetailBody, nowMs: number): string {
  const { resources, interruption, idle_since: idleSince, uptime_seconds: uptime } = node;
  const at = interruption?.at === undefined ? '' : ` at ${interruption.at}`;
  return facts([
    ['State', node.draining ? `${node.liveness}, draining` : node.liveness],
    ['Stream', node.stream_active ? 'open: commands reach it' : 'none: commands wait, or are refused'],
    ['Seen', `${age(Date.parse(node.last_seen), nowMs)} ago`],
    ['Up', uptime === undefined ? undefined : age(0, uptime * 1000)],
    ['Idle', idleSince === undefined ? undefined : age(Date.parse(idleSince), nowMs)],
    ['CPU', resources && `${resources.cpu_percent.toFixed(1)} %`],
    ['Memory', resources && usedText(resources.memory_used_mb, resources.memory_total_mb)],
    ['Disk', resources?.disk_total_mb ? usedText(resources.disk_used_mb ?? 0, resources.disk_total_mb) : undefined],
    ['Interruption', interruption && `${interruption.kind}${at} ${interruption.detail}`.trimEnd()],
  ]);
}

function gpusText(gpus: NonNullable<NodeDetailBody['gpus']>): string {
  return table(
    ['INDEX', 'NAME', 'MEMORY', 'BUSY', 'TEMPERATURE'],
    gpus.map(({ index, name, memory_used_mb: used, memory_total_mb: total, utilization, temperature_c: heat }) => [
      ...[String(index), name, usedText(used, total), `${utilization} %`, `${heat} °C`],
    ]),
  );
}

function modelsText(models: NonNullable<NodeDetailBody['models']>): string {
  return table(
    ['NAME', 'SIZE', 'LOADED'],
    models.map(({ name, size_bytes: bytes, currently_loaded: isLoaded }) => [
      ...[name, bytes === 0 ? '' : `${(bytes / 1024 ** 3).toFixed(1)} GiB`, isLoaded ? 'yes' : 'no'],
    ]),
  );
}

function servicesText(services: NonNullable<NodeDetailBody['services']>): string {
  return table(
    ['NAME', 'STATE', 'MESSAGE'],
    Object.entries(services).map(([name, { state, message }]) => [
      ...[name, state.replace(/^SERVICE_STATE_/, '').toLowerCase(), message],
    ]),
  );
}

function usedText(usedMb: number, totalMb: number): string {
  return `${gib(usedMb)} of ${gib(totalMb)} GiB`;
}

function gib(mb: number): string {
  return (mb / 1024).toFixed(1);
}

function orNone(text: string): string | undefined {
  return text === '' ? undefined : text;
}
