/** What agents send over RabbitMQ, and where. The names and shapes are those of agents in use today. */
import { z } from 'zod';

/** Exchanges, their kinds, and the queues that the control plane reads. All are durable. */
export const AGENT_EXCHANGES = {
  registration: {
    name: 'agents.registration',
    type: 'direct',
    queue: 'registration.control-plane',
    keys: ['register', 'deregister'],
  },
  heartbeat: { name: 'agents.heartbeat', type: 'fanout', queue: 'heartbeat.control-plane', keys: [''] },
  /** Reserved. */
  commands: { name: 'agents.commands', type: 'topic' },
} as const;

const nodeId = z.string().min(1).max(200);
const text = z
  .string()
  .max(1_000)
  .nullish()
  .transform((value) => value ?? '');
const figure = z
  .number()
  .nullish()
  .transform((value) => value ?? 0);

export const amqpRegistrationSchema = z.looseObject({
  action: z.enum(['register', 'deregister']),
  node_id: nodeId,
  node_type: text,
  nebula_ip: text,
  public_ip: text,
  region: text,
  az: text,
  capabilities: z.record(z.string(), z.unknown()).nullish(),
  timestamp: z.unknown(),
});
export type AmqpRegistration = z.infer<typeof amqpRegistrationSchema>;

export const amqpHeartbeatSchema = z.looseObject({
  node_id: nodeId,
  status: z.enum(['healthy', 'degraded', 'unhealthy', 'unknown']),
  services: z.record(z.string(), z.boolean()).nullish(),
  resources: z
    .looseObject({
      memory_total_mb: figure,
      memory_used_mb: figure,
      cpu_percent: figure,
      gpus: z
        .array(
          z.looseObject({
            index: figure,
            name: text,
            memory_used: figure,
            memory_total: figure,
            utilization: figure,
            temperature: figure,
          }),
        )
        .max(64)
        .nullish(),
      models_loaded: z.array(z.string().max(500)).max(1_000).nullish(),
    })
    .nullish(),
  timestamp: z.unknown(),
});
export type AmqpHeartbeat = z.infer<typeof amqpHeartbeatSchema>;
