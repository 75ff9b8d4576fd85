/**
 * EventBridge events about instances and tasks, as they come through a queue: which source should look, and what was
 * announced. Pure. Events are hints: they say where to look soon, never what is so.
 */
import type { Interruption } from '@carrierarr/protocol';

/** A spot instance has this long after its warning, ms. */
const SPOT_NOTICE_MS = 120_000;

/** What an event is about. `other`: well formed, but nothing to us. */
export type AwsEventKind = 'instance-state' | 'spot-interruption' | 'rebalance' | 'task-state' | 'other';

export interface AwsEvent {
  readonly kind: AwsEventKind;
  /** Begin of the names of the sources that should look: `ec2/REGION` or `ecs/REGION/CLUSTER`. */
  readonly source?: string;
  readonly interruption?: { readonly instanceId: string; readonly interruption: Interruption };
}

/** Reads a message's body; undefined when it is no event that EventBridge would send. */
export function parseAwsEvent(body: string): AwsEvent | undefined {
  const envelope = objectOf(jsonOf(body));
  const [type, region, time] = ['detail-type', 'region', 'time'].map((key) => textIn(envelope, key));
  if (type === undefined || region === undefined || time === undefined || Number.isNaN(Date.parse(time))) {
    return undefined;
  }
  const detail = objectOf(envelope['detail']);
  switch (type) {
    case 'EC2 Instance State-change Notification':
      return textIn(detail, 'instance-id') ? { kind: 'instance-state', source: `ec2/${region}` } : undefined;
    case 'EC2 Spot Instance Interruption Warning':
      return interruptionEvent('spot-interruption', region, textIn(detail, 'instance-id'), {
        kind: 'spot',
        at: new Date(Date.parse(time) + SPOT_NOTICE_MS).toISOString(),
        detail: `EC2 takes the spot instance back (${textIn(detail, 'instance-action') ?? 'terminate'}).`,
      });
    case 'EC2 Instance Rebalance Recommendation':
      return interruptionEvent('rebalance', region, textIn(detail, 'instance-id'), {
        kind: 'rebalance',
        detail: `EC2 said at ${time} that the instance is likely to be taken back.`,
      });
    case 'ECS Task State Change': {
      const cluster = textIn(detail, 'clusterArn')?.split('/').at(-1);
      return cluster ? { kind: 'task-state', source: `ecs/${region}/${cluster}` } : undefined;
    }
    default:
      return { kind: 'other' };
  }
}

function interruptionEvent(
  kind: AwsEventKind,
  region: string,
  instanceId: string | undefined,
  interruption: Interruption,
): AwsEvent | undefined {
  return instanceId ? { kind, source: `ec2/${region}`, interruption: { instanceId, interruption } } : undefined;
}

function textIn(detail: Readonly<Record<string, unknown>>, key: string): string | undefined {
  const value = detail[key];
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** An object's fields; none for anything else. */
function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // It has no fields either, like any other nonsense.
  }
}
