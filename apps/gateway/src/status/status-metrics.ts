import { Counter, Gauge, type Registry } from 'prom-client';

export interface StatusMetrics {
  encoded(kind: 'document' | 'full' | 'step' | 'catch-up' | 'freshness'): void;
  sent(type: 'status' | 'workers', bytes: number): void;
  /** A client was left out because its socket is full; it gets the newest when it has drained. */
  skipped(): void;
}

export function createStatusMetrics(registry: Registry, ageSeconds: () => number | undefined): StatusMetrics {
  const registers = [registry];
  const encodings = new Counter({
    name: 'carrierarr_gateway_status_encodings_total',
    help: 'Texts made of the status of workers, each for all clients that need it, by kind: document (old clients and HTTP), full, step or catch-up.',
    labelNames: ['kind'] as const,
    registers,
  });
  const messages = new Counter({
    name: 'carrierarr_gateway_status_messages_total',
    help: 'Messages about workers that were sent, by type.',
    labelNames: ['type'] as const,
    registers,
  });
  const bytes = new Counter({
    name: 'carrierarr_gateway_status_bytes_total',
    help: 'Bytes of messages about workers that were sent.',
    registers,
  });
  const skips = new Counter({
    name: 'carrierarr_gateway_status_skips_total',
    help: 'Times that a client with a full socket was left out; it gets the newest status when it has drained.',
    registers,
  });
  const age: Gauge = new Gauge({
    name: 'carrierarr_gateway_status_age_seconds',
    help: 'Time since the status of workers was last read from Redis.',
    registers,
    collect() {
      const seconds = ageSeconds();
      if (seconds !== undefined) age.set(seconds);
    },
  });
  return {
    encoded: (kind) => encodings.inc({ kind }),
    sent(type, length) {
      messages.inc({ type });
      bytes.inc(length);
    },
    skipped: () => skips.inc(),
  };
}
