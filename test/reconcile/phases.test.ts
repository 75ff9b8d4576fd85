/** States of sources, told in phases. */
import { backoffDelayMs, BACKOFF_MAX_MS, phaseOfRecord, phaseOfState } from '@carrierarr/reconcile';
import { describe, expect, it } from 'vitest';
import { record } from './builders.js';

describe('the phase of a state', () => {
  it.each([
    ['ec2/eu-central-1', 'pending', 'pending'],
    ['ec2/eu-central-1', 'running', 'running'],
    ['ec2/eu-central-1', 'shutting-down', 'terminating'],
    ['ec2/eu-central-1', 'terminated', 'absent'],
    ['ec2/eu-central-1', 'stopping', 'stopping'],
    ['ec2/eu-central-1', 'stopped', 'stopped'],
    ['ec2/eu-central-1', 'RUNNING', 'unknown'],
    ['ecs/eu-central-1/prod', 'PROVISIONING', 'pending'],
    ['ecs/eu-central-1/prod', 'ACTIVATING', 'pending'],
    ['ecs/eu-central-1/prod', 'RUNNING', 'running'],
    ['ecs/eu-central-1/prod', 'DEPROVISIONING', 'terminating'],
    ['ecs/eu-central-1/prod', 'STOPPED', 'absent'],
    ['ecs/eu-central-1/prod', 'DELETED', 'absent'],
    ['script', 'Running', 'running'],
    ['script', 'absent', 'absent'],
    ['script', 'on fire', 'unknown'],
    ['script', 'constructor', 'unknown'],
    ['script', '', 'unknown'],
  ])('as %s says %j is %s', (source, state, phase) => expect(phaseOfState(source, state)).toBe(phase));

  it('of a tombstone is absent, whatever it was', () => {
    expect(phaseOfRecord(record('running', { gone_at: '2026-06-01T00:00:00Z' }))).toBe('absent');
  });
});

describe('the backoff', () => {
  it('lies between nothing and a bound that doubles up to five minutes', () => {
    expect([1, 2, 3, 11, 12, 1_000].map((failures) => backoffDelayMs(failures, 0.999_999_9))).toEqual([
      249,
      499,
      999,
      255_999,
      299_999,
      BACKOFF_MAX_MS - 1,
    ]);
    expect(backoffDelayMs(8, 0)).toBe(0);
    expect(backoffDelayMs(0, 0.5)).toBe(0);
  });
});
