/**
 * Between messages of the wire and records of the store. Pure. What an agent says is data: it is cut to size, and
 * numbers are bounded.
 */
import { isUtf8 } from 'node:buffer';
import {
  type AgentRequest,
  type AgentResult,
  encodeEntry,
  ENTRY_BYTES_MAX,
  FIGURES,
  type HealthStateName,
  HEALTH_STATES,
  NODE_TYPES,
  type NodeRegistration,
  type NodeStatusRecord,
  type NodeSummary,
  type NodeTypeName,
  fleetSummaryOf,
  type Run,
  shownMsOf,
  type StreamLetter,
  targetSchema,
  timeTextOf,
} from '@carrierarr/protocol';
import {
  Command,
  CommandEnd,
  type CommandOutput,
  type CommandResult,
  CommandType,
  FleetStatusResponse,
  HealthState,
  type NodeStatus,
  NodeType,
  OutputStream,
  type RegisterRequest,
  ServiceState,
  type ServiceStatus,
} from '@carrierarr/protocol/agent-control';

const TEXT_MAX = 1_000;
const LABELS_MAX = 64;
const SERVICES_MAX = 64;
const GPUS_MAX = 64;
const MODELS_MAX = 1_000;
const FEATURES_MAX = 32;
/** Runs of one entry of output. */
const RUNS_MAX = 10_000;

/** What is wrong with a name that an agent gives itself or its machine; undefined if it can be a node's name. */
export function problemOfName(name: string): string | undefined {
  const answer = targetSchema.safeParse(name);
  return answer.success ? undefined : (answer.error.issues[0]?.message ?? 'it cannot be a name');
}

export function registrationOf(request: RegisterRequest, nowMs: number): NodeRegistration {
  const { capabilities: able } = request;
  return {
    type: nodeTypeOf(request.nodeType),
    instance_id: request.instanceId,
    nebula_ip: cut(request.nebulaIp),
    public_ip: cut(request.publicIp),
    region: cut(request.region),
    az: cut(request.availabilityZone),
    labels: Object.fromEntries(cutEntries(request.labels, LABELS_MAX)),
    ...(able !== undefined && {
      capabilities: {
        has_gpu: able.hasGpu,
        gpu_model: cut(able.gpuModel),
        gpu_count: FIGURES.gpus(able.gpuCount),
        gpu_memory_mb: FIGURES.megabytes(able.gpuMemoryMb),
        cpu_cores: FIGURES.cores(able.cpuCores),
        memory_mb: FIGURES.megabytes(able.memoryMb),
        disk_mb: FIGURES.megabytes(able.diskMb),
      },
    }),
    features: request.features.slice(0, FEATURES_MAX).map(cut),
    agent_version: cut(request.agentVersion),
    registered_ms: nowMs,
  };
}

export function statusOf(status: NodeStatus, nowMs: number): NodeStatusRecord {
  const { resources, interruption, nebula, k3s, ollama, liqo } = status;
  const services = Object.entries({ ...status.services, nebula, k3s, ollama, liqo }).flatMap(([name, service]) =>
    service === undefined ? [] : [[cut(name), serviceOf(service)] as const],
  );
  return {
    health: healthStateOf(status.health),
    uptime_seconds: FIGURES.seconds(status.uptimeSeconds),
    idle_seconds: FIGURES.seconds(status.idleSeconds),
    services: Object.fromEntries(services.slice(-SERVICES_MAX)),
    ...(resources !== undefined && {
      resources: {
        cpu_percent: FIGURES.percent(resources.cpuPercent),
        memory_used_mb: FIGURES.megabytes(resources.memoryUsedMb),
        memory_total_mb: FIGURES.megabytes(resources.memoryTotalMb),
        disk_used_mb: FIGURES.megabytes(resources.diskUsedMb),
        disk_total_mb: FIGURES.megabytes(resources.diskTotalMb),
      },
    }),
    gpus: status.gpus.slice(0, GPUS_MAX).map((gpu) => ({
      index: FIGURES.gpus(gpu.index),
      name: cut(gpu.name),
      memory_used_mb: FIGURES.megabytes(gpu.memoryUsedMb),
      memory_total_mb: FIGURES.megabytes(gpu.memoryTotalMb),
      utilization: FIGURES.percent(gpu.utilizationPercent),
      temperature_c: FIGURES.celsius(gpu.temperatureC),
    })),
    models: status.loadedModels.slice(0, MODELS_MAX).map((model) => ({
      name: cut(model.name),
      size_bytes: FIGURES.bytes(model.sizeBytes),
      currently_loaded: model.currentlyLoaded,
    })),
    ...(interruption !== undefined && {
      interruption: {
        kind: cut(interruption.kind),
        ...(isTime(interruption.at) && { at: timeTextOf(interruption.at.getTime()) }),
        detail: cut(interruption.detail),
      },
    }),
    draining: status.draining,
    received_ms: nowMs,
  };
}

function serviceOf({ state, message, uptimeSeconds }: ServiceStatus) {
  return {
    state: ServiceState[state] ?? 'SERVICE_STATE_UNSPECIFIED',
    message: cut(message),
    uptime_seconds: FIGURES.seconds(uptimeSeconds),
  };
}

/** What is written to a stream for a request. The problem says why it cannot be. */
export function commandOf(request: AgentRequest, isFirst: boolean): { command: Command } | { problem: string } {
  const type = CommandType[`COMMAND_TYPE_${request.type}` as keyof typeof CommandType];
  if (type === undefined) return { problem: `This monitor knows no command of type ${request.type}. Upgrade it.` };
  return {
    command: Command.fromPartial({
      ...{ commandId: request.execution, type, args: request.args, timeoutSeconds: request.timeout_seconds },
      ...{ argv: request.argv ?? [], fence: request.fence, killGraceMs: request.kill_grace_ms },
      ...{ outageGraceMs: request.outage_grace_ms, outputBytesMax: request.output_bytes_max },
      firstSending: isFirst,
    }),
  };
}

const ENDS: Partial<Record<CommandEnd, AgentResult['end']>> = {
  [CommandEnd.COMMAND_END_EXITED]: 'exited',
  [CommandEnd.COMMAND_END_CANCELLED]: 'cancelled',
  [CommandEnd.COMMAND_END_REFUSED]: 'refused',
  [CommandEnd.COMMAND_END_LOST]: 'lost',
  [CommandEnd.COMMAND_END_OUT_OF_TOUCH]: 'out-of-touch',
};

/** An agent in use today names no end: it has exited, and its output comes along. */
export function resultOf(result: CommandResult): AgentResult {
  const { stdout, stderr, error, signal, success, exitCode } = result;
  const end = ENDS[result.end] ?? 'exited';
  return {
    end,
    exit_code: exitCode,
    ...(ENDS[result.end] === undefined && { success }),
    ...(signal !== '' && { signal: cut(signal) }),
    ...(error !== '' && { error: cut(error) }),
    ...{ sequence: whole(result.sequence), lines: whole(result.lines), truncated_lines: whole(result.truncatedLines) },
    ...(stdout !== '' && { stdout }),
    ...(stderr !== '' && { stderr }),
  };
}

const LETTERS: Partial<Record<OutputStream, StreamLetter>> = {
  [OutputStream.OUTPUT_STREAM_STDOUT]: 'o',
  [OutputStream.OUTPUT_STREAM_STDERR]: 'e',
  [OutputStream.OUTPUT_STREAM_LOG]: 'l',
};
/** How old output may be when it comes, as after an outage, or ahead of this machine's clock, ms. */
const CLOCK_OFF_MS_MAX = 24 * 3_600_000;
const NEWLINE = 10;

/** An entry of the log for what an agent sent; the problem says what is wrong with that. */
export function entryOf(output: CommandOutput, nowMs: number): { lines: number; entry: Buffer } | { problem: string } {
  const { sequence, body, runs: sent, timeMs } = output;
  if (!(sequence >= 1)) return { problem: `expected a sequence from 1, got ${sequence}` };
  if (body.length > ENTRY_BYTES_MAX)
    return { problem: `expected at most ${ENTRY_BYTES_MAX} bytes of output, got ${body.length}` };
  if (sent.length === 0 || sent.length > RUNS_MAX)
    return { problem: `expected 1 to ${RUNS_MAX} runs of lines, got ${sent.length}` };
  if (!isUtf8(body)) return { problem: 'expected output in UTF-8, got other bytes' };
  const runs: Run[] = [];
  let lines = 0;
  for (const run of sent) {
    const stream = LETTERS[run.stream];
    if (stream === undefined || run.lines < 1)
      return { problem: `expected lines of stdout, stderr or log, got ${run.lines} of stream ${run.stream}` };
    runs.push({ stream, lines: run.lines });
    lines += run.lines;
  }
  const counted = countOf(body) + 1;
  if (counted !== lines) return { problem: `expected ${lines} lines as the runs say, got ${counted}` };
  const receivedMs = Math.round(nowMs);
  // A clock that is further off tells nothing; nor may a time of no calendar get into the log.
  const isLikely = Math.abs(timeMs - receivedMs) <= CLOCK_OFF_MS_MAX;
  const entry = { execution: output.commandId, sequence, timeMs: isLikely ? timeMs : receivedMs, runs, body };
  return { lines, entry: encodeEntry({ kind: 'lines', ...entry }) };
}

function countOf(body: Buffer): number {
  let count = 0;
  for (let at = body.indexOf(NEWLINE); at >= 0; at = body.indexOf(NEWLINE, at + 1)) count += 1;
  return count;
}

/** An entry with lines that belong to no execution. */
export function logEntryOf(lines: readonly string[], nowMs: number): Buffer {
  const runs: Run[] = [{ stream: 'l', lines: lines.length }];
  const body = Buffer.from(lines.join('\n'));
  return encodeEntry({ kind: 'lines', execution: '', sequence: 0, timeMs: Math.round(nowMs), runs, body });
}

/** `GetFleetStatus`. UNSPECIFIED means any. */
export function fleetResponseOf(
  summaries: readonly NodeSummary[],
  { nodeType, health }: { nodeType: NodeType; health: HealthState },
): FleetStatusResponse {
  const wanted = summaries.filter(
    (node) =>
      (nodeType === NodeType.NODE_TYPE_UNSPECIFIED || node.node_type === nodeTypeOf(nodeType)) &&
      (health === HealthState.HEALTH_STATE_UNSPECIFIED || node.health === healthStateOf(health)),
  );
  const summary = fleetSummaryOf(wanted);
  return FleetStatusResponse.fromPartial({
    nodes: wanted.map((node) => ({
      ...{ nodeId: node.node_id, nodeType: NodeType[node.node_type], health: HealthState[node.health] },
      ...{ nebulaIp: node.nebula_ip, instanceId: node.instance_id, connected: node.connected },
      ...(node.last_seen_ms > 0 && { lastSeen: new Date(shownMsOf(node.last_seen_ms)) }),
      ...{ uptimeSeconds: Math.trunc(node.uptime_seconds), idleSeconds: Math.trunc(node.idle_seconds) },
      ...{ cpuPercent: node.cpu_percent, memoryPercent: node.memory_percent, gpuCount: node.gpu_count },
      ...{ loadedModels: node.loaded_models, target: node.target, liveness: node.liveness },
    })),
    summary: {
      ...{ totalNodes: summary.total_nodes, healthyNodes: summary.healthy_nodes },
      ...{ unhealthyNodes: summary.unhealthy_nodes, gpuNodes: summary.gpu_nodes, totalGpus: summary.total_gpus },
    },
  });
}

/** Numbers of a newer proto file mean nothing here. */
function nodeTypeOf(type: NodeType): NodeTypeName {
  return NODE_TYPES.find((name) => NodeType[name] === type) ?? 'NODE_TYPE_UNSPECIFIED';
}

function healthStateOf(health: HealthState): HealthStateName {
  return HEALTH_STATES.find((name) => HealthState[name] === health) ?? 'HEALTH_STATE_UNSPECIFIED';
}

function cut(text: string): string {
  return text.slice(0, TEXT_MAX);
}

function cutEntries(map: Readonly<Record<string, string>>, max: number): [string, string][] {
  return Object.entries(map)
    .slice(0, max)
    .map(([key, value]) => [cut(key), cut(value)]);
}

function whole(value: number): number {
  return Number.isSafeInteger(value) && value > 0 ? value : 0;
}

function isTime(at: Date | undefined): at is Date {
  return at !== undefined && !Number.isNaN(at.getTime());
}

/** How often agents are to send heartbeat and status, in the whole seconds that the proto file has for it. */
export function intervalSecondsOf({ heartbeatMs, statusMs }: { heartbeatMs: number; statusMs: number }) {
  const seconds = (ms: number) => Math.max(1, Math.round(ms / 1000));
  return { heartbeatIntervalSec: seconds(heartbeatMs), statusIntervalSec: seconds(statusMs) };
}
