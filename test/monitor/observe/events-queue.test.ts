import type { Interruption } from '@carrierarr/protocol';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseAwsEvent } from '../../../apps/monitor/src/observe/aws-events.js';
import { EventsQueue, queueRegion } from '../../../apps/monitor/src/observe/events-queue.js';
import { Interruptions, INTERRUPTIONS_MAX } from '../../../apps/monitor/src/observe/interruptions.js';
import { FakeAwsError } from '../../support/fake-aws/server.js';
import { type AwsSetup, metric, REGION, startAws } from './support.js';

const event = (type: string, detail: Record<string, unknown>, source = 'aws.ec2') =>
  JSON.stringify({
    ...{ version: '0', id: 'e', 'detail-type': type, source, account: '123456789012', region: REGION },
    ...{ time: '2025-03-01T10:00:00Z', resources: [], detail },
  });
const stateChange = event('EC2 Instance State-change Notification', { 'instance-id': 'i-1', state: 'stopping' });
const spotWarning = event('EC2 Spot Instance Interruption Warning', {
  'instance-id': 'i-1',
  'instance-action': 'terminate',
});
const rebalance = event('EC2 Instance Rebalance Recommendation', { 'instance-id': 'i-2' });
const taskChange = event(
  'ECS Task State Change',
  { clusterArn: 'arn:aws:ecs:eu-central-1:123456789012:cluster/prod', lastStatus: 'STOPPED' },
  'aws.ecs',
);
const spot: Interruption = {
  kind: 'spot',
  at: '2025-03-01T10:02:00.000Z',
  detail: 'EC2 takes the spot instance back (terminate).',
};

describe('an event', () => {
  it('says which source should look', () => {
    expect(parseAwsEvent(stateChange)).toEqual({ kind: 'instance-state', source: 'ec2/eu-central-1' });
    expect(parseAwsEvent(taskChange)).toEqual({ kind: 'task-state', source: 'ecs/eu-central-1/prod' });
  });

  it('says how an instance is to go: a spot warning two minutes ahead', () => {
    expect(parseAwsEvent(spotWarning)).toEqual({
      kind: 'spot-interruption',
      source: 'ec2/eu-central-1',
      interruption: { instanceId: 'i-1', interruption: spot },
    });
    expect(parseAwsEvent(rebalance)?.interruption).toMatchObject({
      instanceId: 'i-2',
      interruption: { kind: 'rebalance' },
    });
  });

  it('of another kind is nothing to us', () => {
    expect(parseAwsEvent(event('EBS Volume Notification', {}))).toEqual({ kind: 'other' });
  });

  it.each([
    '',
    'null',
    '[]',
    '{}',
    'not json',
    event('EC2 Instance State-change Notification', {}),
    event('EC2 Spot Instance Interruption Warning', { 'instance-id': 7 }),
    event('ECS Task State Change', {}),
    stateChange.replace('2025-03-01T10:00:00Z', 'yesterday'),
  ])('is malformed: %s', (body) => expect(parseAwsEvent(body)).toBeUndefined());
});

describe('interruptions', () => {
  const advice: Interruption = { kind: 'rebalance', detail: 'soon' };

  it('are remembered until they must have come', () => {
    const interruptions = new Interruptions();
    interruptions.note('i-1', spot, 0);
    expect(interruptions.of('i-1', 0)).toEqual(spot);
    expect(interruptions.of('i-1', 3_600_000)).toBeUndefined();
    expect(interruptions.of('i-2', 0)).toBeUndefined();
  });

  it('of spot instances are not replaced by advice, but replace it', () => {
    const interruptions = new Interruptions();
    interruptions.note('i-1', advice, 0);
    interruptions.note('i-1', spot, 0);
    interruptions.note('i-1', advice, 0);
    expect(interruptions.of('i-1', 0)).toEqual(spot);
  });

  it('are bounded; the oldest goes first', () => {
    const interruptions = new Interruptions();
    for (let at = 0; at <= INTERRUPTIONS_MAX; at++) interruptions.note(`i-${at}`, advice, 0);
    expect(interruptions.of('i-0', 0)).toBeUndefined();
    expect(interruptions.of('i-1', 0)).toEqual(advice);
  });
});

describe('the events queue', () => {
  let setup: AwsSetup;
  let queue: EventsQueue;
  let told: string[];
  beforeEach(async () => {
    setup = await startAws();
    told = [];
    queue = new EventsQueue({
      ...setup.context,
      client: setup.clients.sqs(REGION, 20_000),
      region: REGION,
      queueUrl: setup.aws.queueUrl,
      onNudge: (source) => void told.push(`nudge ${source}`),
      onInterruption: (id, interruption) => void told.push(`${interruption.kind} ${id}`),
    });
  });
  afterEach(async () => {
    await queue.stop();
    await setup.stop();
  });
  const counted = (kind: string) => metric(setup.context.registry, 'carrierarr_monitor_queue_events_total', { kind });
  const isEmpty = async () => {
    await expect.poll(() => setup.aws.world.messages.length).toBe(0);
  };

  it('tells at once what comes while it waits, and deletes it', async () => {
    queue.start();
    await expect.poll(() => setup.aws.callsOf('ReceiveMessage').length).toBe(1);
    setup.aws.sendMessage('1', stateChange);
    await expect.poll(() => told).toEqual(['nudge ec2/eu-central-1']);
    await isEmpty();
    // Then it waits again, by one held call and not in a loop.
    await expect.poll(() => setup.aws.callsOf('ReceiveMessage').length).toBe(2);
    expect(setup.aws.callsOf('DeleteMessageBatch')).toHaveLength(1);
  });

  it('nudges a source once for many events, after noting what they announce', async () => {
    for (const [at, body] of [stateChange, spotWarning, rebalance, taskChange, stateChange].entries()) {
      setup.aws.sendMessage(String(at), body);
    }
    queue.start();
    await isEmpty();
    expect(told).toEqual(['spot i-1', 'rebalance i-2', 'nudge ec2/eu-central-1', 'nudge ecs/eu-central-1/prod']);
    expect(await counted('instance-state')).toBe(2);
  });

  it('counts and deletes what it cannot read', async () => {
    setup.aws.sendMessage('1', 'nonsense');
    setup.aws.sendMessage('2', stateChange);
    queue.start();
    await isEmpty();
    expect(await counted('malformed')).toBe(1);
    expect(told).toEqual(['nudge ec2/eu-central-1']);
  });

  it('goes on after errors, and says so once', async () => {
    setup.aws.faults.fail('ReceiveMessage', new FakeAwsError(400, 'AccessDeniedException', 'no'), 1);
    setup.aws.sendMessage('1', stateChange);
    queue.start();
    await expect.poll(() => told, { timeout: 10_000 }).toEqual(['nudge ec2/eu-central-1']);
    expect(setup.context.lines).toHaveLength(1);
    expect(setup.context.lines[0]).toContain("Allow the monitor's role the action sqs:ReceiveMessage.");
  });

  it('stops while it waits', async () => {
    queue.start();
    await expect.poll(() => setup.aws.callsOf('ReceiveMessage').length).toBe(1);
    await queue.stop();
    expect(setup.context.lines).toEqual([]);
  });
});

it('the region of a queue is in its address', () => {
  expect(queueRegion('https://sqs.eu-west-1.amazonaws.com/123456789012/events')).toBe('eu-west-1');
  expect(queueRegion('http://127.0.0.1:4566/123456789012/events')).toBeUndefined();
});
