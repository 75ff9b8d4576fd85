/** Metrics of the delivery: what goes out, who is behind, and what was lost and found on the way from Redis. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { Fanout, FanoutMetrics } from './fanout.js';
import type { TailMetrics } from './log-tail.js';

export function createDeliveryMetrics(
  registry: Registry,
): FanoutMetrics & TailMetrics & { watch(fanout: Fanout): void } {
  const registers = [registry];
  const counter = (name: string, help: string) => new Counter({ name: `carrierarr_gateway_${name}`, help, registers });
  // Counted in plain numbers, for they change with every frame, and read when somebody looks.
  const delivered = { lines: 0, frames: 0, bytes: 0 };
  const total = (name: keyof typeof delivered, help: string) =>
    new Counter({
      ...{ name: `carrierarr_gateway_delivered_${name}_total`, help, registers },
      collect() {
        this.reset();
        this.inc(delivered[name]);
      },
    });
  total('lines', 'Lines and events handed to sockets, over all clients.');
  total('frames', 'Output frames handed to sockets.');
  total('bytes', 'Bytes of output frames handed to sockets.');
  const behind = counter('clients_fell_behind_total', 'Times a client was left out because its socket was full.');
  const caughtUp = counter('clients_caught_up_total', 'Times a client that was behind had been sent all it missed.');
  const gaps = counter('client_gaps_total', 'Times a client was told that output it missed is no longer available.');
  const lost = counter('tail_lost_lines_total', 'Lines trimmed from a log before this gateway could read them.');
  const probes = counter(
    'probe_failures_total',
    'Probes through the Redis subscription that were not answered in time.',
  );
  const unreadable = counter('unreadable_messages_total', 'Messages on output channels that this version cannot read.');
  const repairs = new Counter({
    name: 'carrierarr_gateway_repairs_total',
    help: 'Times a log was read because its live messages were not enough, by reason.',
    labelNames: ['reason'] as const,
    registers,
  });
  const roundTrip = new Histogram({
    name: 'carrierarr_gateway_probe_round_trip_seconds',
    help: 'Time from publishing a probe to its arrival on the subscription.',
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1],
    registers,
  });
  return {
    delivered(lineCount, frameCount, byteCount) {
      delivered.lines += lineCount;
      delivered.frames += frameCount;
      delivered.bytes += byteCount;
    },
    fellBehind: () => behind.inc(),
    caughtUp: () => caughtUp.inc(),
    gap: () => gaps.inc(),
    gaps: (count) => lost.inc(count),
    probeFailed: () => probes.inc(),
    roundTripSeconds: (seconds) => roundTrip.observe(seconds),
    repairs: (reason) => repairs.inc({ reason }),
    unreadable: () => unreadable.inc(),
    watch(fanout) {
      const gauge = (name: string, help: string, read: () => number) =>
        new Gauge({
          ...{ name: `carrierarr_gateway_${name}`, help, registers },
          collect() {
            this.set(read());
          },
        });
      gauge('clients_behind', 'Clients that are being brought up from memory or the log.', () => fanout.behindCount);
      gauge('feeds', 'Targets whose output this gateway follows.', () => fanout.feedCount);
      gauge('recent_bytes', 'Bytes of recent output kept in memory.', () => fanout.recentBytes);
      gauge('redis_channels', 'Redis channels this gateway is subscribed to.', () => fanout.channelCount);
    },
  };
}
