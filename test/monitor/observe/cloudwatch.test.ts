import { FakeClock } from '@carrierarr/platform';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { InstanceMetrics } from '../../../apps/monitor/src/observe/cloudwatch.js';
import { Ec2Source } from '../../../apps/monitor/src/observe/ec2.js';
import { FakeAwsError } from '../../support/fake-aws/server.js';
import { type AwsSetup, REGION, startAws, unaborted } from './support.js';

/** Three minutes into a period of five. */
const NOW_MS = Date.UTC(2025, 0, 1, 12, 3);
const minutes = (count: number) => NOW_MS + count * 60_000;

let setup: AwsSetup;
let clock: FakeClock;
beforeEach(async () => {
  clock = new FakeClock(NOW_MS);
  setup = await startAws();
});
afterEach(() => setup.stop());

const measuring = (periodSeconds: 60 | 300 = 300) =>
  new InstanceMetrics({
    ...setup.context,
    clock,
    client: setup.clients.cloudwatch(REGION),
    region: REGION,
    periodSeconds,
  });

describe('metrics of instances', () => {
  it('are the newest of whole periods, in units that need no explaining', async () => {
    const { world } = setup.aws;
    world.measure('i-1', 'CPUUtilization', 12.3456, minutes(-8));
    world.measure('i-1', 'NetworkIn', 300_000, minutes(-8));
    world.measure('i-1', 'NetworkOut', 150, minutes(-8));
    world.measure('i-1', 'StatusCheckFailed', 1, minutes(-13));
    const metrics = measuring();
    expect(await metrics.refresh(['i-1', 'i-2'], unaborted())).toBe(1);
    expect(metrics.of('i-1')).toEqual({
      cpu_percent: 12.3,
      network_in_bytes_per_second: 1000,
      network_out_bytes_per_second: 1,
      status_check_failed: true,
      measured_at: new Date(minutes(-3)).toISOString(),
    });
    expect(metrics.of('i-2')).toBeUndefined();
  });

  it('are not those of a period that goes on', async () => {
    setup.aws.world.measure('i-1', 'CPUUtilization', 50, minutes(-3));
    const metrics = measuring();
    await metrics.refresh(['i-1'], unaborted());
    expect(metrics.of('i-1')).toBeUndefined();
  });

  it.each([
    [125, 1],
    [126, 2],
    [1000, 8],
  ])('are asked for with at most 500 metrics a call: %i instances, %i calls', async (count, expected) => {
    const ids = Array.from({ length: count }, (_, at) => `i-${at}`);
    setup.aws.world.measure(ids.at(-1) ?? '', 'StatusCheckFailed', 0, minutes(-1));
    const metrics = measuring(60);
    expect(await metrics.refresh(ids, unaborted())).toBe(expected);
    expect(metrics.of(ids.at(-1) ?? '')).toMatchObject({ status_check_failed: false });
    const calls = setup.aws.callsOf('GetMetricData');
    expect(calls).toHaveLength(expected);
    expect(Math.max(...calls.map(({ input }) => (input['MetricDataQueries'] as unknown[]).length))).toBeLessThanOrEqual(
      500,
    );
  });

  it('are kept when CloudWatch fails', async () => {
    setup.aws.world.measure('i-1', 'CPUUtilization', 50, minutes(-8));
    const metrics = measuring();
    await metrics.refresh(['i-1'], unaborted());
    setup.aws.faults.fail('GetMetricData', new FakeAwsError(400, 'AccessDeniedException', 'no'));
    await expect(metrics.refresh(['i-1'], unaborted())).rejects.toThrow('cloudwatch:GetMetricData');
    expect(metrics.of('i-1')).toMatchObject({ cpu_percent: 50 });
  });
});

describe('EC2 with metrics', () => {
  function source(): Ec2Source {
    const client = setup.clients.ec2(REGION);
    const measured = { metrics: measuring(), everyMs: 300_000 };
    const rest = { region: REGION, tags: {}, statusEveryMs: 0, interruptionOf: () => undefined };
    return new Ec2Source({ ...setup.context, clock, client, measured, ...rest });
  }

  it('shows them for instances that run, and asks only for those, once a period', async () => {
    for (const [id, state] of [
      ['i-1', 'running'],
      ['i-2', 'stopped'],
    ] as const) {
      setup.aws.world.putInstance({ id, state });
      setup.aws.world.measure(id, 'CPUUtilization', 50, minutes(-8));
    }
    const watched = source();
    const first = await watched.poll(unaborted());
    expect(first.records.map(({ metrics }) => metrics?.cpu_percent)).toEqual([50, undefined]);
    expect(first.calls).toBe(2);
    expect((await watched.poll(unaborted())).calls).toBe(1);
    clock.advance(300_000);
    expect((await watched.poll(unaborted())).calls).toBe(2);
  });

  it('is as complete without them', async () => {
    setup.aws.world.putInstance({ id: 'i-1', state: 'running' });
    setup.aws.faults.fail('GetMetricData', new FakeAwsError(400, 'AccessDeniedException', 'no'));
    const { records, warning } = await source().poll(unaborted());
    expect(records).toHaveLength(1);
    expect(warning).toContain("Allow the monitor's role the action cloudwatch:GetMetricData.");
  });
});
