/** Which verb leads from what is seen to what is wanted, and what each verb is given for. */
import type { DesiredState, WorkerResource } from '@carrierarr/protocol';
import { isCloudSource, type ObservedPhase } from './phases.js';
import type { Sight } from './sight.js';

/** Verbs that plans use. `provision` makes a machine and starts it; only scripts of clouds have it. */
export type PlanVerb = 'provision' | 'start' | 'stop' | 'terminate';

export type Step =
  /** It is as wanted. */
  | { kind: 'reached' }
  /** It is on its way somewhere: nothing is to be done until it has arrived. */
  | { kind: 'underway' }
  | { kind: 'verb'; verb: PlanVerb };

/** The next step from a phase (never `unknown`) to a wanted state. */
export function stepTo(wanted: DesiredState, phase: ObservedPhase, cloud: boolean): Step {
  switch (wanted) {
    case 'running':
      if (phase === 'running') return { kind: 'reached' };
      if (phase === 'absent') return { kind: 'verb', verb: cloud ? 'provision' : 'start' };
      return phase === 'stopped' ? { kind: 'verb', verb: 'start' } : { kind: 'underway' };
    case 'stopped':
      // What is not there does not run either: nobody makes a machine to keep it stopped.
      if (phase === 'stopped' || phase === 'absent') return { kind: 'reached' };
      return phase === 'running' ? { kind: 'verb', verb: 'stop' } : { kind: 'underway' };
    case 'absent':
      if (phase === 'absent') return { kind: 'reached' };
      return phase === 'terminating' ? { kind: 'underway' } : { kind: 'verb', verb: 'terminate' };
  }
}

/** The state that a verb is given for; undefined for a verb that no plan gives. */
export function goalOf(verb: string): DesiredState | undefined {
  if (verb === 'provision' || verb === 'start') return 'running';
  if (verb === 'stop') return 'stopped';
  return verb === 'terminate' ? 'absent' : undefined;
}

/**
 * Whether the Worker's machine is made by `provision`: its owner says so, by source or by giving arguments for it, or
 * a cloud saw it.
 */
export function isCloudWorker(worker: WorkerResource, sight: Sight): boolean {
  if (worker.spec.source !== 'auto') return isCloudSource(worker.spec.source);
  if (worker.spec.args.provision !== undefined) return true;
  const source = sight.record?.source ?? worker.status?.source;
  return source !== undefined && isCloudSource(source);
}
