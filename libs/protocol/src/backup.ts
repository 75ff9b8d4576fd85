/** What a backup holds of a pool's Workers, in the `status` of the pool's manifest, where `apply` leaves it aside. */
import { z } from 'zod';
import { resourceNameSchema, workerSpecSchema } from './resources.js';

const poolMemberSchema = z.strictObject({
  name: resourceNameSchema,
  /** Left out where it is that of the pool's template. */
  spec: workerSpecSchema.optional(),
  /** The same. */
  labels: z.record(z.string(), z.string()).optional(),
});
export type PoolMember = z.infer<typeof poolMemberSchema>;

export const backupStatusSchema = z.object({ workers: z.array(poolMemberSchema) });
