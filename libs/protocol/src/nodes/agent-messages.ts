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
const nodeId = targetSchema.describe(
  'Instance id of the machine. What is neither that of an EC2 instance nor the ARN of an ECS task is a host name.',
);
const sentAt = z
  .unknown()
  .optional()
  .describe('When it was sent, by the clock of the agent: RFC 3339, or seconds or milliseconds since 1970.');
const startNumber = z
  .unknown()
  .optional()
  .describe(
    'New. Which start of the agent it was said by: a whole number that grows with each, also when its clock is set back.',
  );
const text = z
  .string()
  .max(1_000)
  .nullish()
  .transform((value) => value ?? '');
const maybeFigure = (bounded: (value: number) => number) => z.number().overwrite(bounded).nullish();
const figure = (bounded: (value: number) => number) => maybeFigure(bounded).transform((value) => value ?? 0);

export const amqpRegistrationSchema = z.looseObject({
  action: z.enum(['register', 'deregister']).describe('Counts, whatever the routing key is.'),
  node_id: nodeId,
  node_type: text.describe('`gpu-worker`, `cpu-worker` or `lighthouse`.'),
  nebula_ip: text,
  public_ip: text,
  region: text,
  az: text,
  capabilities: z
    .looseObject({
      gpu: z.boolean().nullish().describe('Whether it has one. Without `gpu_count` it counts as one.'),
      gpu_model: text,
      gpu_count: maybeFigure(FIGURES.gpus),
      gpu_memory_mb: maybeFigure(FIGURES.megabytes),
      cpu_cores: maybeFigure(FIGURES.cores),
      memory_mb: maybeFigure(FIGURES.megabytes),
      disk_mb: maybeFigure(FIGURES.megabytes),
    })
    .nullish(),
  timestamp: sentAt,
  start_number: startNumber,
});
export type AmqpRegistration = z.infer<typeof amqpRegistrationSchema>;

export const amqpHeartbeatSchema = z.looseObject({
  node_id: nodeId,
  status: z
    .enum(['healthy', 'degraded', 'unhealthy', 'unknown'])
    .describe('`unknown` leaves what was last said over gRPC.'),
  services: z.record(z.string(), z.boolean()).nullish().describe('By name: whether it runs.'),
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
            memory_used: figure(FIGURES.megabytes).describe('MB, as `memory_total`.'),
            memory_total: figure(FIGURES.megabytes),
            utilization: figure(FIGURES.percent).describe('Percent.'),
            temperature: figure(FIGURES.celsius).describe('°C.'),
          }),
        )
        .max(64)
        .nullish(),
      models_loaded: z.array(z.string().max(500)).max(1_000).nullish().describe('Names of models that are in memory.'),
    })
    .nullish(),
  timestamp: sentAt,
  start_number: startNumber,
});
export type AmqpHeartbeat = z.infer<typeof amqpHeartbeatSchema>;
