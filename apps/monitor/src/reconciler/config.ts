/** Settings of the reconciler. Durations are in ms once read. */
import { type ConfigValues, defineSchema, formats } from '@carrierarr/platform';

const MINUTE_MS = 60_000;

export const reconcilerSchema = defineSchema({
  reconcile: {
    doc: 'Bring Workers to their desired state. With --reconcile=false this monitor only watches.',
    format: formats.boolean,
    default: true,
  },
  reconcileConcurrency: {
    doc: 'Workers and WorkerPools that are written or given commands at once.',
    format: formats.intBetween(1, 1_000),
    default: 16,
  },
  resync: {
    doc: 'Each Worker and WorkerPool is looked at again after this long at the latest, whether or not anything changed.',
    format: formats.durationBetween(1_000, 60 * MINUTE_MS),
    default: '5m',
  },
  gcOrphans: {
    doc:
      'Terminate machines that are tagged carrierarr:managed and belong to no Worker, also those whose Worker was ' +
      'deleted as an orphan. Otherwise they are only listed.',
    format: formats.boolean,
    default: false,
  },
});

/** The settings that reconciling reads. */
export type ReconcilerConfig = ConfigValues<typeof reconcilerSchema>;

/** Bounds of commands, which whoever submits must know. `carrierarr up` has them as its gateway has. */
export const submissionSchema = defineSchema({
  queueLengthMax: {
    doc: 'Waiting commands of one target. The same for every gateway and monitor.',
    format: formats.intBetween(1, 100_000),
    default: 100,
  },
  pendingTargetsMax: {
    doc: 'Targets with waiting commands, in the whole installation. The same for every gateway and monitor.',
    format: formats.intBetween(64, 10_000_000),
    default: 100_000,
  },
});
