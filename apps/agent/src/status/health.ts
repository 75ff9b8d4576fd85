/** How the node is, from what was found: pure. */
import { HealthState, ServiceState, type ServiceStatus } from '@carrierarr/protocol/agent-control';

export interface HealthFacts {
  services: readonly { isOptional: boolean; status: ServiceStatus }[];
  /** Ollama is what a GPU worker is there for. */
  needsOllama: boolean;
  hasOllama: boolean;
  /** GPUs are there, but cannot be looked at. */
  hasGpuProblem: boolean;
  /** It is going to be taken away, or shall get no more work. */
  isLeaving: boolean;
  diskUsedShare: number;
}

/** Above this share of the disk nothing good will happen any more. */
const DISK_SHARE_MAX = 0.98;

/** Unhealthy: nothing that should run does, or the disk is full. Degraded: some of it does not, or the node is leaving. */
export function healthOfNode(facts: HealthFacts): HealthState {
  const expected = facts.services.filter(
    ({ isOptional, status }) => !isOptional || status.state !== ServiceState.SERVICE_STATE_NOT_INSTALLED,
  );
  const running = expected.filter(({ status }) => status.state === ServiceState.SERVICE_STATE_RUNNING);
  if (facts.diskUsedShare > DISK_SHARE_MAX) return HealthState.HEALTH_STATE_UNHEALTHY;
  if (expected.length > 0 && running.length === 0) return HealthState.HEALTH_STATE_UNHEALTHY;
  const lacksOllama = facts.needsOllama && !facts.hasOllama;
  if (running.length < expected.length || lacksOllama || facts.hasGpuProblem || facts.isLeaving) {
    return HealthState.HEALTH_STATE_DEGRADED;
  }
  return HealthState.HEALTH_STATE_HEALTHY;
}
