/** What agents send over RabbitMQ, and where. The names and shapes are those of agents in use today. */
import { z } from 'zod';
import { targetSchema } from '../names.js';
import { FIGURES } from './figures.js';

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
const maybeFigure = (bounded: (value: number) => number) => z.number().overwrite(bounded).nullish();
const figure = (bounded: (value: number) => number) => maybeFigure(bounded).transform((value) => value ?? 0);

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
      gpu_count: maybeFigure(FIGURES.gpus),
      gpu_memory_mb: maybeFigure(FIGURES.megabytes),
      cpu_cores: maybeFigure(FIGURES.cores),
      memory_mb: maybeFigure(FIGURES.megabytes),
      disk_mb: maybeFigure(FIGURES.megabytes),
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
      memory_total_mb: figure(FIGURES.megabytes),
      memory_used_mb: figure(FIGURES.megabytes),
      cpu_percent: figure(FIGURES.percent),
      gpus: z
        .array(
          z.looseObject({
            index: figure(FIGURES.gpus),
            name: text,
            memory_used: figure(FIGURES.megabytes),
            memory_total: figure(FIGURES.megabytes),
            utilization: figure(FIGURES.percent),
            temperature: figure(FIGURES.celsius),
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
