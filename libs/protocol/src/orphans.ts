/**
 * Orphans: machines tagged as ours that belong to no Worker. They cost money and nobody looks after them, so their owner
 * is told which they are, since when, and what becomes of them.
 */
import { z } from 'zod';

const time = z.iso.datetime({ offset: true });

/** The tag that control scripts put on the machines they make. */
export const MANAGED_TAG = 'carrierarr:managed';

export const orphanSchema = z.object({
  id: z.string(),
  target: z.string().meta({ description: 'Where its commands would go.' }),
  mapped_by: z.string().meta({ description: 'What made it that target.' }),
  name: z.string().optional(),
  instance_type: z.string().optional(),
  source: z.string().meta({ description: 'Who sees it.' }),
  state: z.string().meta({ description: 'In the words of its source.' }),
  since: time.meta({ description: 'When the first complete poll began that showed it so.' }),
  reason: z.string().meta({ description: 'Why it counts as an orphan.' }),
  termination: z.enum(['off', 'held', 'waiting', 'given']).meta({
    description:
      'Whether it will be terminated. `off`: not asked for (--gc-orphans); `held`: not as things are; `waiting`: it ' +
      'will be; `given`: its `terminate` was given.',
  }),
  message: z.string().meta({ description: 'The same for people, with what they can do.' }),
  terminate_after: time.optional().meta({ description: 'With `waiting`: not before this time, where it is known.' }),
  given_at: time.optional(),
  execution: z.string().optional().meta({ description: 'Of its `terminate`.' }),
});
export type Orphan = z.infer<typeof orphanSchema>;
