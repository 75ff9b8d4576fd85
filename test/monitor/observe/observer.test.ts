import { FakeClock, loadConfig } from '@carrierarr/platform';
import type { SeenWorker, SourceReport, WorkerRecord } from '@carrierarr/protocol';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { observeSchema, randomMonitorId } from '../../../apps/monitor/src/config.js';
import { Observer } from '../../../apps/monitor/src/observe/observer.js';
import type { StatusChange } from '../../../apps/monitor/src/observe/poller.js';
import { GONE } from '../../../apps/monitor/src/observe/tombstones.js';
import { FakeAwsError } from '../../support/fake-aws/server.js';
import { type AwsSetup, startAws } from './support.js';

function configOf(...argv: string[]) {
  const loaded = loadConfig({ program: 'test', summary: 'Tests.', schema: observeSchema, argv, env: {} });
  if (loaded.kind !== 'config') throw new Error('expected a configuration');
  return loaded.values;
}

const NOTHING = { workers: [], sources: [] };

let setup: AwsSetup;
let observer: Observer;
/** As frontends would have it. */
let status: Map<string, WorkerRecord>;
let reports: SourceReport[];
let nowMs: number;
/** Of the pollers; the calls that they make take real time. */
let clock: FakeClock;
beforeEach(async () => {
  nowMs = 0;
  clock = new FakeClock();
  setup = await startAws({ nowMs: () => nowMs });
  status = new Map();
  reports = [];
});
afterEach(async () => {
  await observer.stop();
  await setup.stop();
});

function create(...argv: string[]): Observer {
  return new Observer({
    ...setup.context,
    clock,
    config: configOf('--poll', '1s', ...argv),
    onPoll(report: SourceReport, { upserts, removed }: StatusChange) {
      for (const record of upserts) status.set(record.id, record);
      for (const id of removed) status.delete(id);
      reports.push(report);
      return Promise.resolve();
    },
  });
}
async function observe(...argv: string[]): Promise<void> {
  observer = create(...argv);
  await observer.start(NOTHING);
  await firstReports(1);
}
const complete = () => reports.filter(({ ok }) => ok).length;
/** Waits for so many more complete polls, each after `pauseMs`; by default the longest pause that a poller makes. */
async function completePolls(count: number, pauseMs = 2_000): Promise<void> {
  for (let at = 0; at < count; at++) {
    const before = complete();
    await clock.advanceAsync(pauseMs);
    await expect.poll(complete, { timeout: 15_000, interval: 2 }).toBeGreaterThan(before);
  }
}
/** The first poll comes by itself. */
async function firstReports(count: number): Promise<void> {
  await expect.poll(() => new Set(reports.map(({ source }) => source)).size, { timeout: 15_000 }).toBe(count);
}
const recordOf = (id: string) => ({
  ...{ id, provider: 'ec2', state: 'running', target: id, mapped_by: 'id' as const, source: 'ec2/eu-central-1' },
});
const states = () => Object.fromEntries([...status].map(([id, { state }]) => [id, state]));
const put = (id: string, state: string) => setup.aws.world.putInstance({ id, state, tags: { fleet: 'llm' } });
const EC2 = ['-ec2-tags', '{"fleet":"llm"}'];

describe('the status of a fleet on EC2', () => {
  it('keeps a worker that one answer leaves out', async () => {
    put('i-1', 'running');
    put('i-2', 'running');
    await observe(...EC2);
    setup.aws.faults.omit('i-2', 1);
    await completePolls(3);
    expect(states()).toEqual({ 'i-1': 'running', 'i-2': 'running' });
  });

  it('keeps a terminated instance as terminated when EC2 forgets it', async () => {
    put('i-1', 'running');
    await observe(...EC2);
    setup.aws.world.changeInstance('i-1', { state: 'terminated' });
    await completePolls(1);
    setup.aws.world.forgetInstance('i-1');
    await completePolls(3);
    expect(status.get('i-1')).toMatchObject({ state: 'terminated', gone_at: expect.any(String) as string });
  });

  it('shows an empty fleet as empty, and one that comes back as back', async () => {
    put('i-1', 'running');
    put('i-2', 'stopped');
    await observe(...EC2);
    setup.aws.world.forgetInstance('i-1');
    setup.aws.world.forgetInstance('i-2');
    await completePolls(3);
    expect(states()).toEqual({ 'i-1': GONE, 'i-2': GONE });
    expect(reports.at(-1)).toMatchObject({ ok: true, workers: 0 });
    put('i-1', 'running');
    await completePolls(2);
    expect(status.get('i-1')).not.toHaveProperty('gone_at');
  });

  it('does not change while EC2 fails, and says that it is not fresh', async () => {
    put('i-1', 'running');
    await observe(...EC2);
    setup.aws.faults.fail('DescribeInstances', new FakeAwsError(400, 'UnauthorizedOperation', 'no'), 3);
    setup.aws.world.forgetInstance('i-1');
    for (let failed = 1; failed <= 3; failed++) {
      await clock.advanceAsync(4_000);
      await expect.poll(() => reports.filter(({ ok }) => !ok).length, { timeout: 15_000 }).toBe(failed);
    }
    expect(states()).toEqual({ 'i-1': 'running' });
    expect(reports.at(-1)?.error).toContain('UnauthorizedOperation');
  });

  it('is late by as much as EC2 is, and right in the end', async () => {
    setup.aws.world.lagMs = 5_000;
    put('i-1', 'pending');
    await observe(...EC2);
    expect(states()).toEqual({});
    nowMs = 6_000;
    await completePolls(2);
    expect(states()).toEqual({ 'i-1': 'pending' });
    setup.aws.world.changeInstance('i-1', { state: 'running' });
    await completePolls(2);
    expect(states()).toEqual({ 'i-1': 'pending' });
    nowMs = 12_000;
    await completePolls(2);
    expect(states()).toEqual({ 'i-1': 'running' });
  });

  it('goes on from what another leader published', async () => {
    put('i-1', 'running');
    await observe(...EC2);
    await observer.stop();
    const known = [...status.values()].map((record): SeenWorker => ({
      ...record,
      version: 1,
      observed_at: new Date().toISOString(),
    }));
    setup.aws.world.forgetInstance('i-1');
    reports = [];
    observer = create(...EC2);
    await observer.start({ workers: known, sources: [] });
    await firstReports(1);
    expect(states()).toEqual({ 'i-1': 'running' });
    await completePolls(1);
    expect(states()).toEqual({ 'i-1': GONE });
  });
});

it('goes on telling of an end that the queue announced to the leader before', async () => {
  put('i-1', 'running');
  put('i-2', 'running');
  const interruption = { kind: 'spot' as const, at: new Date().toISOString(), detail: 'EC2 takes it back.' };
  const seen = { version: 1, observed_at: new Date().toISOString() };
  const known = [
    { ...recordOf('i-1'), ...seen, interruption },
    { ...recordOf('i-2'), ...seen, interruption: { kind: 'scheduled-event' as const, detail: 'That a poll tells.' } },
  ];
  observer = create(...EC2);
  await observer.start({ workers: known, sources: [] });
  await completePolls(1);
  // What is as it was published is not published again; the other has lost its event.
  expect(status.get('i-1')?.interruption ?? interruption).toEqual(interruption);
  expect(status.get('i-2')).toMatchObject({ id: 'i-2' });
  expect(status.get('i-2')).not.toHaveProperty('interruption');
  setup.aws.world.changeInstance('i-1', { state: 'stopping' });
  await completePolls(2);
  expect(status.get('i-1')).toMatchObject({ state: 'stopping', interruption });
});

describe('an observer', () => {
  it('has a source for each region and cluster', async () => {
    observer = create(
      ...[...EC2, '--ec2-regions', 'eu-central-1,us-east-1', '--ecs-regions', 'eu-west-1'],
      ...['-ecs-cluster', 'prod,arn:aws:ecs:us-west-2:123456789012:cluster/dev'],
    );
    await observer.start(NOTHING);
    expect(observer.sources).toEqual(['ec2/eu-central-1', 'ec2/us-east-1', 'ecs/eu-west-1/prod', 'ecs/us-west-2/dev']);
    await firstReports(4);
    expect(new Set(setup.aws.calls.map(({ region }) => region)).size).toBe(4);
  });

  it('takes the region of the AWS environment when none is given, and says what to do when there is none', async () => {
    observer = create(...EC2);
    vi.stubEnv('AWS_REGION', '');
    vi.stubEnv('AWS_CONFIG_FILE', '/dev/null');
    const why =
      /for --ec2-tags\. Expected --ec2-regions \(CARRIERARR_EC2_REGIONS\), or AWS_REGION.* such as eu-central-1/;
    await expect(observer.start(NOTHING)).rejects.toThrow(why);
    // Before it can lead, so that the program ends and says so.
    await expect(observer.prepare()).rejects.toThrow(why);
    await expect(create('-ecs-cluster', 'prod').prepare()).rejects.toThrow('--ecs-regions (CARRIERARR_ECS_REGIONS)');
    await expect(create('--events-queue-url', 'http://127.0.0.1:1/q').prepare()).rejects.toThrow('--events-queue-url');
    await create('-ecs-cluster', 'arn:aws:ecs:us-west-2:123456789012:cluster/dev').prepare();
    vi.stubEnv('AWS_REGION', 'eu-west-3');
    await observer.prepare();
    await observer.start(NOTHING);
    expect(observer.sources).toEqual(['ec2/eu-west-3']);
  });

  it('watches nothing unless asked to', async () => {
    observer = create();
    await observer.start(NOTHING);
    expect(observer.sources).toEqual([]);
    expect(setup.aws.calls).toEqual([]);
  });

  it('polls at once when an event says so, and shows the interruption that it announced', async () => {
    put('i-1', 'running');
    observer = create('--poll', '30s', ...EC2, '--events-queue-url', setup.aws.queueUrl);
    await observer.start(NOTHING);
    await firstReports(1);
    await expect.poll(() => setup.aws.callsOf('ReceiveMessage').length).toBe(1);
    setup.aws.sendMessage(
      '1',
      JSON.stringify({
        ...{ 'detail-type': 'EC2 Spot Instance Interruption Warning', region: 'eu-central-1' },
        ...{ time: new Date().toISOString(), detail: { 'instance-id': 'i-1', 'instance-action': 'terminate' } },
      }),
    );
    await expect.poll(() => setup.aws.world.messages.length).toBe(0);
    // Far less than the interval.
    await completePolls(1, 1_000);
    expect(status.get('i-1')).toMatchObject({ state: 'running', interruption: { kind: 'spot' } });
  });

  it('polls a source, or all, when nudged', async () => {
    put('i-1', 'running');
    observer = create('--poll', '1h', '--poll-max', '1h', ...EC2, '-ecs-cluster', 'prod');
    await observer.start(NOTHING);
    await firstReports(2);
    observer.nudge('ec2/eu-central-1');
    await completePolls(1, 1_000);
    expect(reports.map(({ source }) => source).slice(2)).toEqual(['ec2/eu-central-1']);
    observer.nudge();
    await clock.advanceAsync(1_000);
    await expect.poll(() => reports.length).toBe(5);
    expect(new Set(reports.slice(3).map(({ source }) => source)).size).toBe(2);
    observer.nudge('ec2/nowhere-1');
  });
});

describe('the configuration', () => {
  it('accepts what existing installations give', () => {
    const config = configOf('-ec2-tags', '{"Role":"worker"}', '-ecs-cluster', 'prod', '-poll', '15s');
    expect(config).toMatchObject({ ec2Tags: { Role: 'worker' }, ecsCluster: ['prod'], poll: 15_000, pollMax: null });
  });

  it('watches nothing, polls each 30 s and measures nothing by default', () => {
    expect(configOf()).toMatchObject({ ec2Tags: null, ecsCluster: [], poll: 30_000, cloudwatchMetrics: false });
  });

  it.each([
    ['--ec2-regions', 'Frankfurt'],
    ['--ecs-cluster', 'prod cluster'],
    ['--ec2-tags', '["a"]'],
    ['--poll', '10ms'],
    ['--events-queue-url', 'events'],
  ])('refuses %s %s', (flag, value) => expect(() => configOf(flag, value)).toThrow(`Expected \`${flag}\``));

  it('makes a new name at each start for a monitor that was given none', () => {
    expect(randomMonitorId()).toMatch(/^[A-Za-z0-9._-]{1,128}$/);
    expect(randomMonitorId()).not.toBe(randomMonitorId());
  });
});
