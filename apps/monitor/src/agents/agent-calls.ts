/** What agents and people ask for outside of streams. */
import { AGENT_FEATURES } from '@carrierarr/protocol';
import type {
  FleetStatusRequest,
  FleetStatusResponse,
  HeartbeatRequest,
  HeartbeatResponse,
  RegisterRequest,
  RegisterResponse,
} from '@carrierarr/protocol/agent-control';
import type { NodeRegistry } from '@carrierarr/store';
import { status as codes } from '@grpc/grpc-js';
import type { FleetView } from './fleet-view.js';
import { type AgentCalls, CallError } from './grpc-server.js';
import { fleetResponseOf, intervalSecondsOf, problemOfName, registrationOf } from './messages.js';
import type { AgentMetrics } from './metrics.js';
import type { Registrations } from './peers.js';

export interface RegistryCallsOptions {
  registry: NodeRegistry;
  registrations: Registrations;
  fleet: FleetView;
  intervals: { heartbeatMs: number; statusMs: number };
  now: () => number;
  metrics: AgentMetrics;
}

export class RegistryCalls implements AgentCalls {
  readonly #o: RegistryCallsOptions;

  constructor(options: RegistryCallsOptions) {
    this.#o = options;
  }

  async register(request: RegisterRequest, peer: string): Promise<RegisterResponse> {
    const { registry, registrations, intervals, now, metrics } = this.#o;
    const name = request.nodeId || request.instanceId;
    this.#checkName(name);
    if (request.instanceId !== '') this.#checkName(request.instanceId);
    const answer = await registry.register(name, registrationOf(request, now()), 'grpc');
    if (answer.kind === 'full') {
      metrics.refused.inc({ reason: 'nodes' });
      throw new CallError(codes.RESOURCE_EXHAUSTED, `There are ${answer.nodes} nodes, as many as are allowed.`);
    }
    metrics.registrations.inc();
    registrations.set(peer, name, answer.key);
    return {
      ...{ accepted: true, message: '', assignedId: answer.name, features: [...AGENT_FEATURES] },
      ...intervalSecondsOf(intervals),
    };
  }

  async heartbeat({ nodeId }: HeartbeatRequest): Promise<HeartbeatResponse> {
    const { registry, now, metrics } = this.#o;
    metrics.heartbeats.inc();
    return { ok: await registry.beat(nodeId), serverTime: new Date(now()) };
  }

  async getFleetStatus(request: FleetStatusRequest): Promise<FleetStatusResponse> {
    return fleetResponseOf(await this.#o.fleet.summaries(), request);
  }

  #checkName(name: string): void {
    const problem = problemOfName(name);
    if (problem === undefined) return;
    this.#o.metrics.refused.inc({ reason: 'name' });
    const text = `The node's name ${JSON.stringify(name.slice(0, 100))} cannot be used: ${problem}.`;
    throw new CallError(codes.INVALID_ARGUMENT, text);
  }
}
