/** What agents send over RabbitMQ, and where. The names and shapes are those of agents in use today. */
import { z } from 'zod';
import { targetSchema } from '../names.js';

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

/** It becomes a name, and perhaps a target. */
const nodeId = targetSchema;
const text = z
  .string()
  .max(1_000)
  .nullish()
  .transform((value) => value ?? '');
const maybeFigure = z.number().nullish();
const figure = maybeFigure.transform((value) => value ?? 0);

export const amqpRegistrationSchema = z.looseObject({
  action: z.enum(['register', 'deregister']),
  node_id: nodeId,
  node_type: text,
  nebula_ip: text,
  public_ip: text,
  region: text,
  az: text,
  capabilities: z
    .looseObject({
      gpu: z.boolean().nullish(),
      gpu_model: text,
      gpu_count: maybeFigure,
      gpu_memory_mb: maybeFigure,
      cpu_cores: maybeFigure,
      memory_mb: maybeFigure,
      disk_mb: maybeFigure,
    })
    .nullish(),
  timestamp: z.unknown().optional(),
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
  timestamp: z.unknown().optional(),
});
export type AmqpHeartbeat = z.infer<typeof amqpHeartbeatSchema>;
