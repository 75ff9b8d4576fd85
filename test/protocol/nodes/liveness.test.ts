import {
  healthOf,
  isOutOfHearing,
  lastSeenMs,
  type ListeningSince,
  livenessOf,
  silenceMs,
  streamsCommands,
  UNHEARD_MS_MAX,
} from '@carrierarr/protocol';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const limits = { staleMs: 120_000, deadMs: 300_000 };

describe('livenessOf', () => {
  it('is what the node says of itself, then stale, then dead', () => {
    const node = { seenMs: { grpc: 1_000_000 } };
    const at = (silentMs: number) => livenessOf(node, { grpc: 0 }, limits, 1_000_000 + silentMs);
    expect([at(0), at(119_999), at(120_000), at(299_999), at(300_000)]).toEqual([
      ...['healthy', 'healthy', 'stale', 'stale', 'dead'],
    ]);
  });

  it('holds nobody for dead before a whole time of listening has passed', () => {
    fc.assert(
      fc.property(fc.nat(1e9), fc.nat(1e9), fc.nat(1e9), (seen, since, now) => {
        const alive = livenessOf({ seenMs: { amqp: seen } }, { amqp: since }, limits, now);
        if (now - since < limits.deadMs) expect(alive).not.toBe('dead');
        if (now - since < limits.staleMs) expect(alive).toBe('healthy');
      }),
    );
  });

  it('holds nobody for dead on a channel that nobody listens to', () => {
    expect(livenessOf({ seenMs: { amqp: 1 } }, {}, limits, 1e12)).toBe('healthy');
    expect(livenessOf({ seenMs: { amqp: 1 } }, { grpc: 1e12 - 500_000 }, limits, 1e12)).toBe('healthy');
  });

  it('holds nobody for dead who was heard last on a channel that nobody listens to now', () => {
    const onceByGrpc = { seenMs: { grpc: 1, amqp: 1e12 } };
    expect(livenessOf(onceByGrpc, { grpc: 0 }, limits, 1e12 + UNHEARD_MS_MAX - 1)).toBe('healthy');
    expect(livenessOf(onceByGrpc, { grpc: 0, amqp: 1e12 + 1_000_000 }, limits, 1e12 + 1_200_000)).toBe('stale');
  });

  it('goes by the channel on which a node was heard last, once nobody listens to the other', () => {
    for (const [used, left] of [
      ['grpc', 'amqp'],
      ['amqp', 'grpc'],
    ] as const) {
      const node = { seenMs: { [left]: 1e12, [used]: 1e12 + 1 } };
      const at = (silentMs: number) => livenessOf(node, { [used]: 0 }, limits, 1e12 + 1 + silentMs);
      expect([at(119_999), at(120_000), at(300_000)]).toEqual(['healthy', 'stale', 'dead']);
    }
  });

  it('holds for stale, but not for dead, of whom nobody could hear for a day in which others were heard', () => {
    const node = { seenMs: { amqp: 1_000 } };
    const at = (listening: { grpc?: number }, nowMs: number) => [
      livenessOf(node, listening, limits, nowMs),
      isOutOfHearing(node, listening, nowMs),
      silenceMs(node, listening, nowMs),
    ];
    const there = { grpc: 0 };
    expect(at(there, 1_000 + UNHEARD_MS_MAX - 1)).toEqual(['healthy', false, 0]);
    expect(at(there, 1_000 + UNHEARD_MS_MAX)).toEqual(['stale', true, 0]);
    expect(at(there, 1_000 + 9 * UNHEARD_MS_MAX)).toEqual(['stale', true, 0]);
    // All monitors were away.
    expect(at({ grpc: 9e9 }, 9e9 + UNHEARD_MS_MAX - 1)).toEqual(['healthy', false, 0]);
    expect(at({ grpc: 9e9 }, 9e9 + UNHEARD_MS_MAX)).toEqual(['stale', true, 0]);
    expect(at({}, 9e12)).toEqual(['healthy', false, 0]);
  });

  it('holds for stale, but not for dead, who was not heard since no monitor serves agents', () => {
    const node = { seenMs: { amqp: 1_000, grpc: 2_000 } };
    const at = (nowMs: number, listening = {}) => [
      livenessOf(node, { none: 1e6, ...listening }, limits, nowMs),
      isOutOfHearing(node, { none: 1e6, ...listening }, nowMs),
    ];
    // Not by the clock alone: all monitors may have been away.
    expect(at(1e6 + limits.staleMs - 1)).toEqual(['healthy', false]);
    expect(at(1e6 + limits.staleMs)).toEqual(['stale', false]);
    expect(at(1e6 + UNHEARD_MS_MAX - 1)).toEqual(['stale', false]);
    expect(at(1e6 + UNHEARD_MS_MAX)).toEqual(['stale', true]);
    expect(at(1e12)).toEqual(['stale', true]);
    expect(livenessOf({ seenMs: { grpc: 2e6 } }, { none: 1e6 }, limits, 2e6 + limits.staleMs - 1)).toBe('healthy');
    expect(livenessOf({ seenMs: { grpc: 2e6 } }, { none: 1e6 }, limits, 2e6 + limits.staleMs)).toBe('stale');
  });

  it('does not mind that no monitor served agents once one listens again', () => {
    const channels = fc.record({ grpc: fc.nat(1e9), amqp: fc.nat(1e9) }, { requiredKeys: [] });
    const listened = channels.filter((listening) => Object.keys(listening).length > 0);
    fc.assert(
      fc.property(channels, listened, fc.nat(1e9), fc.nat(1e9), (seenMs, listening, none, now) => {
        const of = (each: ListeningSince) => [
          livenessOf({ seenMs }, each, limits, now),
          isOutOfHearing({ seenMs }, each, now),
        ];
        expect(of({ ...listening, none })).toEqual(of(listening));
      }),
    );
  });

  it('counts the shortest silence of several channels', () => {
    expect(silenceMs({ seenMs: { amqp: 5, grpc: 90 } }, { amqp: 0, grpc: 0 }, 100)).toBe(10);
    expect(silenceMs({ seenMs: {} }, { grpc: 0 }, 100)).toBe(0);
    expect(lastSeenMs({ seenMs: { amqp: 5, grpc: 90 } })).toBe(90);
  });
});

describe('healthOf', () => {
  const status = (health: 'HEALTH_STATE_HEALTHY' | 'HEALTH_STATE_UNHEALTHY', received_ms: number) => ({
    ...{ health, received_ms, uptime_seconds: 0, idle_seconds: 0, services: {}, gpus: [], models: [], draining: false },
  });
  const heartbeat = (word: 'degraded' | 'unknown', received_ms: number) => ({
    ...{ status: word, received_ms, services: {}, gpus: [], models_loaded: [] },
  });

  it('goes by the newer of status and heartbeat', () => {
    expect(healthOf({ status: status('HEALTH_STATE_UNHEALTHY', 1), heartbeat: heartbeat('degraded', 2) })).toBe(
      'HEALTH_STATE_DEGRADED',
    );
    expect(healthOf({ status: status('HEALTH_STATE_HEALTHY', 3), heartbeat: heartbeat('degraded', 2) })).toBe(
      'HEALTH_STATE_HEALTHY',
    );
    expect(healthOf({ status: status('HEALTH_STATE_HEALTHY', 1), heartbeat: heartbeat('unknown', 2) })).toBe(
      'HEALTH_STATE_HEALTHY',
    );
    expect(healthOf({})).toBe('HEALTH_STATE_UNSPECIFIED');
  });
});

it('knows which agents stream their commands', () => {
  expect([streamsCommands(undefined), streamsCommands([]), streamsCommands(['commands.v1'])]).toEqual([
    ...[false, false, true],
  ]);
});
