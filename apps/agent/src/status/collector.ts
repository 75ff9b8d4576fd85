/**
 * Looks at everything there is to say of this node: machine, GPUs, services, Ollama. All at once, each with a time limit of
 * its own, so that one which hangs delays a look by seconds and hides nothing else.
 */
import { readFile } from 'node:fs/promises';
import type { Clock } from '@carrierarr/platform';
import {
  type GPUStatus,
  HealthState,
  type NodeCapabilities,
  NodeType,
  type NodeStatus,
  type ResourceUsage,
  ServiceState,
  type ServiceStatus,
} from '@carrierarr/protocol/agent-control';
import type { AgentConfig } from '../config.js';
import type { IdleSight } from '../idle/idle.js';
import type { Identity } from '../metadata/identity.js';
import type { InterruptionNotice } from '../metadata/imds.js';
import { lookAtGpus } from './gpus.js';
import { RepeatedProbe } from './probe.js';
import { healthOfNode } from './health.js';
import { connectionsTo, lookAtOllama, type OllamaReport } from './ollama.js';
import { checkService } from './service-check.js';
import { defaultServices, type ServiceSpec } from './service-spec.js';
import { machineUptimeS, UsageMeter } from './usage.js';

/** What was found at one look. */
export interface Sight {
  resources: ResourceUsage;
  gpus: GPUStatus[];
  gpuProblem: string | undefined;
  /** There may be others than these, and they may be at work. */
  hasUnknownGpus: boolean;
  services: { spec: ServiceSpec; status: ServiceStatus }[];
  ollama: OllamaReport;
  /** Undefined: they could not be counted. */
  ollamaConnections: number | undefined;
  /** Monotonic ms. */
  lookedMs: number;
}

/** What the rest of the agent adds. */
export interface NodeFacts {
  identity: Identity;
  type: NodeType;
  idleMs: number;
  notice: InterruptionNotice | undefined;
  isDraining: boolean;
  nowMs: number;
}

/** A look younger than this is as good as a new one. */
const FRESH_MS = 1_000;

export class Collector {
  readonly #config: AgentConfig;
  readonly #clock: Clock;
  readonly #meter = new UsageMeter();
  readonly #services: readonly ServiceSpec[];
  readonly #nvidiaSmi: RepeatedProbe;
  #looking: Promise<Sight> | undefined;
  #last: Sight | undefined;

  constructor(config: AgentConfig, clock: Clock) {
    this.#config = config;
    this.#clock = clock;
    this.#nvidiaSmi = new RepeatedProbe(config.nvidiaSmi);
    this.#services = config.services ?? defaultServices(config.ollamaUrl);
  }

  /** Looks, or shares a look that is under way. Never rejects. */
  look(): Promise<Sight> {
    if (this.#last !== undefined && this.#clock.monotonicMs() - this.#last.lookedMs < FRESH_MS) {
      return Promise.resolve(this.#last);
    }
    this.#looking ??= this.#look().finally(() => (this.#looking = undefined));
    return this.#looking;
  }

  /** What was found last. Never rejects. */
  lastLook(): Promise<Sight> {
    return this.#last === undefined ? this.look() : Promise.resolve(this.#last);
  }

  async #look(): Promise<Sight> {
    const { ollamaUrl } = this.#config;
    // Before our own requests open connections of their own.
    const ollamaConnections = await openConnections(ollamaUrl);
    const [resources, gpus, services, ollama] = await Promise.all([
      this.#meter.look(),
      lookAtGpus(this.#nvidiaSmi),
      Promise.all(this.#services.map(async (spec) => ({ spec, status: await checkService(spec) }))),
      lookAtOllama(ollamaUrl),
    ]);
    this.#last = {
      ...{ resources, gpus: gpus.gpus, gpuProblem: gpus.problem, services, ollama, ollamaConnections },
      hasUnknownGpus: gpus.isUnknown ?? false,
      lookedMs: this.#clock.monotonicMs(),
    };
    return this.#last;
  }
}

/** None where there are no such tables, as other systems have none and some machines no IPv6. */
async function openConnections(ollamaUrl: string): Promise<number | undefined> {
  const { port, protocol } = new URL(ollamaUrl);
  const tables: string[] = [];
  for (const path of ['/proc/net/tcp', '/proc/net/tcp6']) {
    try {
      tables.push(await readFile(path, 'utf8'));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return undefined;
    }
  }
  return connectionsTo(Number(port) || (protocol === 'https:' ? 443 : 80), tables);
}

/** What tells whether the node is busy. */
export function idleSightOf(sight: Sight, commands: number): IdleSight {
  return {
    commands,
    gpuPercents: sight.hasUnknownGpus ? undefined : sight.gpus.map(({ utilizationPercent }) => utilizationPercent),
    loaded: sight.ollama.loaded,
    connections: sight.ollamaConnections,
  };
}

export function nodeTypeOf(type: AgentConfig['type'], gpuCount: number): NodeType {
  switch (type) {
    case 'gpu-worker':
      return NodeType.NODE_TYPE_GPU_WORKER;
    case 'cpu-worker':
      return NodeType.NODE_TYPE_CPU_WORKER;
    case 'lighthouse':
      return NodeType.NODE_TYPE_LIGHTHOUSE;
    case null:
      return gpuCount > 0 ? NodeType.NODE_TYPE_GPU_WORKER : NodeType.NODE_TYPE_CPU_WORKER;
  }
}

export function capabilitiesOf({ gpus, resources }: Sight, cpuCores: number): NodeCapabilities {
  return {
    hasGpu: gpus.length > 0,
    gpuModel: gpus[0]?.name ?? '',
    gpuCount: gpus.length,
    gpuMemoryMb: gpus.reduce((sum, { memoryTotalMb }) => sum + memoryTotalMb, 0),
    cpuCores,
    memoryMb: resources.memoryTotalMb,
    diskMb: resources.diskTotalMb,
  };
}

export function healthOf(sight: Sight, { type, notice, isDraining }: NodeFacts): HealthState {
  const { diskUsedMb, diskTotalMb } = sight.resources;
  return healthOfNode({
    services: sight.services.map(({ spec, status }) => ({ isOptional: spec.isOptional ?? false, status })),
    needsOllama: type === NodeType.NODE_TYPE_GPU_WORKER && sight.services.some(({ spec }) => spec.name === 'ollama'),
    hasOllama: sight.ollama.isThere,
    hasGpuProblem: sight.gpuProblem !== undefined,
    isLeaving: isDraining || notice !== undefined,
    diskUsedShare: diskTotalMb > 0 ? diskUsedMb / diskTotalMb : 0,
  });
}

/** Field names of their own, for agents in use today have only these four. */
const OLD_NAMES = ['nebula', 'k3s', 'ollama', 'liqo'] as const;

export function nodeStatusOf(sight: Sight, facts: NodeFacts): NodeStatus {
  const { identity, notice, isDraining, nowMs, idleMs } = facts;
  const byName = new Map(sight.services.map(({ spec, status }) => [spec.name, status]));
  const [nebula, k3s, ollama, liqo] = OLD_NAMES.map((name) => byName.get(name));
  for (const name of OLD_NAMES) byName.delete(name);
  return {
    nodeId: identity.nodeId,
    timestamp: new Date(nowMs),
    ...{ nebula, k3s, ollama, liqo, resources: sight.resources, gpus: sight.gpus },
    loadedModels: sight.ollama.models,
    uptimeSeconds: machineUptimeS(),
    idleSeconds: Math.floor(idleMs / 1000),
    health: healthOf(sight, facts),
    instanceId: identity.instanceId,
    services: Object.fromEntries(byName),
    interruption: notice && {
      kind: notice.kind,
      at: notice.atMs === undefined ? undefined : new Date(notice.atMs),
      detail: notice.detail,
    },
    draining: isDraining || notice?.kind === 'spot',
  };
}

/** As heartbeats over RabbitMQ have it. */
export function heartbeatBodyOf(sight: Sight, facts: NodeFacts): Record<string, unknown> {
  const { resources, services, gpus, ollama } = sight;
  const health = healthOf(sight, facts);
  return {
    node_id: facts.identity.instanceId || facts.identity.nodeId,
    status:
      health === HealthState.HEALTH_STATE_HEALTHY
        ? 'healthy'
        : health === HealthState.HEALTH_STATE_DEGRADED
          ? 'degraded'
          : 'unhealthy',
    services: Object.fromEntries(
      services.map(({ spec, status }) => [spec.name, status.state === ServiceState.SERVICE_STATE_RUNNING]),
    ),
    resources: {
      memory_total_mb: resources.memoryTotalMb,
      memory_used_mb: resources.memoryUsedMb,
      cpu_percent: resources.cpuPercent,
      gpus: gpus.map((gpu) => ({
        ...{ index: gpu.index, name: gpu.name, memory_used: gpu.memoryUsedMb, memory_total: gpu.memoryTotalMb },
        ...{ utilization: gpu.utilizationPercent, temperature: gpu.temperatureC },
      })),
      models_loaded: (ollama.loaded ?? []).map(({ name }) => name),
    },
    timestamp: new Date(facts.nowMs).toISOString(),
  };
}
