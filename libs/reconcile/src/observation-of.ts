/**
 * What is known of the machine of a Worker, out of what sources reported. The one question that is decided here is whose
 * word counts: which sources would know its machine, and whether all of them have been heard lately. Only then does not
 * seeing it mean that it is not there (S3).
 */
import {
  type SeenWorker,
  type SourceReport,
  STALE_INTERVALS,
  targetOf,
  type WorkerRecord,
  type WorkerResource,
} from '@carrierarr/protocol';
import { isCloudSource, phaseOfRecord, SCRIPT_SOURCE, sourceKindOf } from './phases.js';
import type { Observation } from './worker-view.js';

/** What is known of the sources, whoever keeps it. */
export interface SourcesView {
  /** Names of the cloud sources that are polled now, such as `ec2/eu-central-1`. */
  clouds: () => readonly string[];
  /** What a source last said of itself. */
  report: (source: string) => Pick<SourceReport, 'polled_at' | 'interval_ms'> | undefined;
  /** When a script last told the state in this record, epoch ms; 0 or undefined: never. */
  toldAtMs: (record: SeenWorker) => number | undefined;
}

/** Whose word counts, where there is something to say of it beside the records. */
type Heard = Omit<Observation, 'workers'>;

/** `records`: those of the Worker's target, or, if it has a selector, those that have its tags ({@link isMachineOf}). */
export function observationOf(
  worker: WorkerResource,
  records: readonly SeenWorker[],
  sources: SourcesView,
  nowMs: number,
): Observation {
  const { selector, source } = worker.spec;
  if (source === 'script') return scripted(records, sources, nowMs);
  const isAsked = (name: string) => (source === 'auto' ? isCloudSource(name) : sourceKindOf(name) === source);
  const inCloud = records.filter((record) => isAsked(record.source));
  // Tags are a cloud's; no script knows them.
  if (source === 'auto' && inCloud.length === 0 && selector === undefined) return unclouded(records, sources, nowMs);
  // Its machine may appear in any region, so all of them count, unless its record says where it is.
  const living = inCloud.filter(({ gone_at }) => gone_at === undefined);
  const asked =
    living.length > 0 ? [...new Set(living.map((record) => record.source))] : sources.clouds().filter(isAsked);
  return { workers: newestFirst(inCloud), ...heard(asked, source, sources, nowMs) };
}

/** Whether a record is of a machine of the Worker: by the tags that it selects, else by its target. */
export function isMachineOf(
  worker: { metadata: { name: string }; spec: Pick<WorkerResource['spec'], 'target' | 'selector'> },
  record: Pick<SeenWorker, 'target' | 'tags'>,
): boolean {
  const { selector } = worker.spec;
  return selector === undefined ? record.target === targetOf(worker) : hasTags(record, selector.tags);
}

/**
 * Whether the machine of a record is there, and is one that the Worker goes by: of a source that it asks, which for tags is a
 * cloud.
 */
export function hasMachine(
  worker: Parameters<typeof isMachineOf>[0] & { spec: Pick<WorkerResource['spec'], 'source'> },
  record: Pick<WorkerRecord, 'target' | 'tags' | 'source' | 'state' | 'gone_at'>,
): boolean {
  if (!isMachineOf(worker, record) || phaseOfRecord(record) === 'absent') return false;
  const { selector, source } = worker.spec;
  if (source !== 'auto') return sourceKindOf(record.source) === source;
  return isCloudSource(record.source) || (selector === undefined && record.source === SCRIPT_SOURCE);
}

/** Whether a machine has all of these tags. No tags at all select nothing. */
export function hasTags({ tags = {} }: Pick<SeenWorker, 'tags'>, wanted: Readonly<Record<string, string>>): boolean {
  const pairs = Object.entries(wanted);
  return pairs.length > 0 && pairs.every(([key, value]) => Object.hasOwn(tags, key) && tags[key] === value);
}

/**
 * How long a machine has had nothing to do, ms; undefined where nobody knows. An agent that is not heard any more says
 * nothing, whatever it said last; one with a stream knows better than anybody else.
 */
export function idleMsOf(record: SeenWorker | undefined, nowMs: number): number | undefined {
  if (record === undefined) return undefined;
  const { agent, idle_since: since, idle_seconds: seconds } = record;
  const isHeard = agent !== undefined && agent.liveness !== 'stale' && agent.liveness !== 'dead';
  if (isHeard && since !== undefined) return Math.max(0, nowMs - Date.parse(since));
  if (isHeard && agent.connected) return undefined;
  return seconds === undefined ? undefined : seconds * 1_000;
}

/** What pools choose by, of the newest machine that is there. A launch time that is none is not known. */
export function machineFacts(
  { workers }: Observation,
  nowMs: number,
): {
  idleSeconds: number | undefined;
  launchedAtMs: number | undefined;
} {
  const record = workers.find(({ gone_at }) => gone_at === undefined);
  const launchedAtMs = Date.parse(record?.launch_time ?? '');
  const idleMs = idleMsOf(record, nowMs);
  const idleSeconds = idleMs === undefined ? undefined : idleMs / 1_000;
  return { idleSeconds, launchedAtMs: Number.isNaN(launchedAtMs) ? undefined : launchedAtMs };
}

function scripted(records: readonly SeenWorker[], { report, toldAtMs }: SourcesView, nowMs: number): Observation {
  const workers = records.filter(({ source }) => source === SCRIPT_SOURCE);
  const reported = report(SCRIPT_SOURCE);
  const toldMs = workers[0] && toldAtMs(workers[0]);
  if (reported === undefined || !toldMs) {
    return { workers, fresh: false, polledAtMs: undefined, detail: 'Its control script has not told its state yet.' };
  }
  const fresh = nowMs - toldMs <= STALE_INTERVALS * reported.interval_ms;
  return {
    ...{ workers, fresh, polledAtMs: toldMs },
    ...(!fresh && { detail: 'Its control script has not told its state for three polls.' }),
  };
}

/** No cloud has it: then its script is believed, if every cloud has been heard. */
function unclouded(records: readonly SeenWorker[], sources: SourcesView, nowMs: number): Observation {
  const told = scripted(records, sources, nowMs);
  const names = sources.clouds();
  if (names.length === 0) return told;
  const clouds = heard(names, 'auto', sources, nowMs);
  return clouds.fresh ? told : { ...told, ...clouds };
}

/** Whether all of these sources have been heard lately, and since when all of them have been asked. */
function heard(names: readonly string[], kind: string, { report }: SourcesView, nowMs: number): Heard {
  if (names.length === 0) {
    const detail =
      kind === 'auto' ? 'No cloud is watched.' : `No ${kind.toUpperCase()} is watched: see --${kind}-* of the monitor.`;
    return { fresh: false, polledAtMs: undefined, detail };
  }
  let polledAtMs = Number.POSITIVE_INFINITY;
  for (const name of names) {
    const reported = report(name);
    if (reported?.polled_at === undefined) {
      return { fresh: false, polledAtMs: undefined, detail: `${name} has not answered completely yet.` };
    }
    const atMs = Date.parse(reported.polled_at);
    if (nowMs - atMs > STALE_INTERVALS * reported.interval_ms) {
      return { fresh: false, polledAtMs: atMs, detail: `${name} has not been heard of for three polls.` };
    }
    polledAtMs = Math.min(polledAtMs, atMs);
  }
  return { fresh: true, polledAtMs };
}

function newestFirst(workers: SeenWorker[]): SeenWorker[] {
  if (workers.length < 2) return workers;
  const launchedMs = ({ launch_time }: SeenWorker) => Date.parse(launch_time ?? '') || 0;
  return workers.toSorted((a, b) => launchedMs(b) - launchedMs(a));
}
