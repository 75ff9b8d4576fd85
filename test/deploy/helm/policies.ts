/** What every pod of ours keeps to: the restricted Pod Security Standard, and our own rules. */
import type { Container, PodSpec } from './chart.js';

const containersOf = (pod: PodSpec): Container[] => [...(pod.initContainers ?? []), ...pod.containers];

/** Of a pod; whoever is root, or could become it, is named. https://kubernetes.io/docs/concepts/security/pod-security-standards/ */
export function podSecurityProblems(pod: PodSpec): string[] {
  const problems: string[] = [];
  const ofPod = pod.securityContext ?? {};
  for (const field of ['hostNetwork', 'hostPID', 'hostIPC']) if (pod[field]) problems.push(`${field} is set`);
  const allowed = new Set([
    ...['configMap', 'csi', 'downwardAPI', 'emptyDir', 'ephemeral', 'persistentVolumeClaim', 'projected', 'secret'],
  ]);
  for (const { name, ...source } of pod.volumes ?? []) {
    const [kind = ''] = Object.keys(source);
    if (!allowed.has(kind)) problems.push(`volume ${name} is a ${kind}`);
  }
  for (const { name, securityContext: own = {}, ports = [] } of containersOf(pod)) {
    const say = (what: string) => problems.push(`container ${name} ${what}`);
    const seccomp = (own['seccompProfile'] ?? ofPod['seccompProfile']) as { type?: string } | undefined;
    const capabilities = own['capabilities'] as { drop?: string[]; add?: string[] } | undefined;
    if ((own['runAsNonRoot'] ?? ofPod['runAsNonRoot']) !== true) say('may run as root');
    if ((own['runAsUser'] ?? ofPod['runAsUser']) === 0) say('runs as root');
    if (own['privileged'] === true) say('is privileged');
    if (own['allowPrivilegeEscalation'] !== false) say('may become more than it is');
    if (!['RuntimeDefault', 'Localhost'].includes(seccomp?.type ?? '')) say('has no seccomp profile');
    if (!(capabilities?.drop ?? []).includes('ALL')) say('keeps capabilities');
    if ((capabilities?.add ?? []).some((added) => added !== 'NET_BIND_SERVICE')) say('adds capabilities');
    if (ports.some((port) => 'hostPort' in port)) say('takes a port of the node');
  }
  return problems;
}

/** Ours. A pod that runs to its end needs no probes. */
export function policyProblems(pod: PodSpec): string[] {
  const problems: string[] = [];
  const lasts = pod['restartPolicy'] === undefined;
  if (pod.enableServiceLinks !== false) problems.push('gets variables of Services, which our programs refuse');
  if (pod.automountServiceAccountToken !== false) problems.push('gets a token for the API server');
  for (const container of containersOf(pod)) {
    const say = (what: string) => problems.push(`container ${container.name} ${what}`);
    const { image, resources, securityContext } = container;
    if (image.endsWith(':latest') || !/(:[\w][\w.-]*|@sha256:[0-9a-f]{64})$/.test(image))
      say(`has no version: ${image}`);
    if (resources?.limits?.['memory'] === undefined) say('has no limit of memory');
    if (resources?.requests?.['cpu'] === undefined || resources.requests['memory'] === undefined) {
      say('requests no CPU or memory');
    }
    if (securityContext?.['readOnlyRootFilesystem'] !== true) say('may write to its image');
    if (lasts && pod.containers.includes(container)) {
      if (!container.livenessProbe) say('has no liveness probe');
      if (!container.readinessProbe) say('has no readiness probe');
    }
  }
  return problems;
}
