/**
 * Conditions as Kubernetes knows them: each says one thing of a resource, and why. The time of a condition moves only
 * when its status does, so "since when" stays true while the message is refined.
 */
import type { Condition } from '@carrierarr/protocol';

/** Types of conditions that plans set. `Ready`, `Synced`, `Observed` are always there; others once they were True. */
export type ConditionType =
  | 'Ready'
  | 'Synced'
  | 'Observed'
  | 'Interrupted'
  | 'Duplicate'
  | 'Halted'
  | 'IdleStopped'
  | 'Available';

/** What a condition is to say now. */
export interface Statement {
  status: Condition['status'];
  reason: string;
  message: string;
}

export function conditionOf(conditions: readonly Condition[], type: ConditionType): Condition | undefined {
  return conditions.find((condition) => condition.type === type);
}

export function isTrue(conditions: readonly Condition[], type: ConditionType): boolean {
  return conditionOf(conditions, type)?.status === 'True';
}

/** The conditions with one of them saying something else. `lastTransitionTime` moves only with its status. */
export function withCondition(
  conditions: readonly Condition[],
  type: ConditionType,
  statement: Statement,
  at: { generation: number; nowMs: number },
): Condition[] {
  const before = conditionOf(conditions, type);
  const next: Condition = {
    type,
    ...statement,
    lastTransitionTime:
      before?.status === statement.status ? before.lastTransitionTime : new Date(at.nowMs).toISOString(),
    observedGeneration: at.generation,
  };
  return before === undefined ? [...conditions, next] : conditions.map((each) => (each === before ? next : each));
}
