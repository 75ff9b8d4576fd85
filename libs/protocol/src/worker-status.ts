/** What monitors know of a worker, in the words existing clients read (snake_case; empty optional fields left out). */
import { z } from 'zod';

export const workerStatusSchema = z.looseObject({
  id: z.string().meta({ description: 'Instance id, task ARN, or target.' }),
  name: z.string().optional(),
  provider: z.string().meta({ description: '`ec2`, `fargate`, `script`, …' }),
  state: z.string(),
  public_ip: z.string().optional(),
  private_ip: z.string().optional(),
  instance_type: z.string().optional(),
  launch_time: z.string().optional(),
  tags: z.record(z.string(), z.string()).optional(),
  health_check: z.string().optional(),
  last_heartbeat: z.string().optional(),
});
export type WorkerStatus = z.infer<typeof workerStatusSchema>;

export const statusDocumentSchema = z.object({
  workers: z.array(workerStatusSchema),
  timestamp: z.iso.datetime({ offset: true }),
});
/** `GET /api/status`, and, as a string, the `data` of a `status` message. */
export type StatusDocument = z.infer<typeof statusDocumentSchema>;
