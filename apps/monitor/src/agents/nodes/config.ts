/** When a node counts as gone, and what is done then. Durations are in ms once read. */
import { type ConfigValues, defineSchema, formats } from '@carrierarr/platform';

const SECOND_MS = 1_000;
const DAY_MS = 24 * 3_600_000;

export const nodesSchema = defineSchema({
  staleTimeout: {
    doc: 'A node of which nothing is heard for this long is stale.',
    format: formats.durationBetween(SECOND_MS, DAY_MS),
    default: '2m',
  },
  deadThreshold: {
    doc: 'A node of which nothing is heard for this long is dead; at least --stale-timeout counts.',
    format: formats.durationBetween(SECOND_MS, DAY_MS),
    default: '5m',
  },
  autoTerminateDead: {
    doc:
      'End the machines of dead nodes: by SHUTDOWN where a stream is open, else, or if that fails, by the terminate of ' +
      'their target. Not while more than a fifth of all died at once.',
    format: formats.boolean,
    default: false,
  },
});

/** The settings that judging nodes needs. */
export type NodesConfig = ConfigValues<typeof nodesSchema>;
