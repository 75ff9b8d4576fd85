/** All settings of a monitor. */
import {
  type ConfigValues,
  defineSchema,
  formats,
  historySchema,
  logSchema,
  opsSchema,
  redisSchema,
} from '@carrierarr/platform';
import { amqpSchema } from './agents/amqp/config.js';
import { agentsSchema } from './agents/config.js';
import { nodesSchema } from './agents/nodes/config.js';
import { observeSchema } from './config.js';
import { reconcilerSchema, submissionSchema } from './reconciler/config.js';

const HOUR_MS = 3_600_000;

/** What a monitor needs that no gateway has; `carrierarr up` has these beside a gateway's. */
export const watchSchema = defineSchema({
  ...{ ...observeSchema, ...reconcilerSchema },
  ...{ ...agentsSchema, ...amqpSchema, ...nodesSchema },
});

/** The settings of the `carrierarr monitor` program. */
export const monitorSchema = defineSchema({
  ...watchSchema,
  ...submissionSchema,
  idempotencyWindow: {
    doc: 'How long the token of a command that the reconciler gave is remembered.',
    format: formats.durationBetween(HOUR_MS, 24 * 365 * HOUR_MS),
    default: '24h',
  },
  ...historySchema,
  ...redisSchema,
  ...logSchema,
  ...opsSchema,
});

/** The settings that `createMonitor` reads. */
export type MonitorConfig = Omit<
  ConfigValues<typeof monitorSchema>,
  keyof typeof redisSchema | keyof typeof logSchema | keyof typeof opsSchema
>;
