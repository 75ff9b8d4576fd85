/**
 * What follows from what is known of all nodes: which rows of the status change, what happened to whom, and who has died.
 * Asked twice with the same, the second time nothing follows. Pure.
 *
 * Nobody is held for dead, and ended, before a whole period of silence has passed in which somebody listened and this
 * leader led. Who was held for stale or dead stays so until something is heard of it: that listening began anew is no sign
 * of life.
 */
import { isDeepStrictEqual } from 'node:util';
import {
  isOutOfHearing,
  lastSeenMs,
  LIVENESS_STATES,
  type ListeningSince,
  type Liveness,
  livenessOf,
  type LivenessLimits,
  type NodeRecord,
  silenceMs,
  type WorkerRecord,
} from '@carrierarr/protocol';
import { type HaltMemory, judgeHalts, NO_HALTS, phaseOfRecord, SCRIPT_SOURCE } from '@carrierarr/reconcile';
import { scriptIdOf } from '../../observe/script-id.js';
import { type AgentFacts, factsHoldUntilMs, factsIn, factsOf, isLiving, rowOfNode, withAgent } from './agent-facts.js';

/** A node that was silent for this long is forgotten, ms. */
export const FORGET_MS = 24 * 3_600_000;
/** Between two points where planning may be interrupted. */
const NODES_PER_STEP = 50;

export interface NodesView {
  /** By key. */
  nodes: ReadonlyMap<string, NodeRecord>;
  /** It has a stream, and the monitor that serves it lives. */
  isStreaming: (node: NodeRecord) => boolean;
  /** What other sources say of workers, without agents, by id. */
  workers: ReadonlyMap<string, WorkerRecord>;
  listening: ListeningSince;
  /** Always the same while a leader leads. */
  limits: LivenessLimits;
  /** When this leader began, epoch ms. */
  termStartMs: number;
  nowMs: number;
}

/** What a row shows of a node. */
interface Shown {
  facts: AgentFacts;
  /** Id of its row. */
  row: string;
  /** Of a row that has no other source: what the node said of itself, which is in it. */
  own: string | undefined;
  /** Exactly; rows are coarser. */
  seenMs: number;
  /** What this was found by: with the same, the same is found again until then, epoch ms. */
  basis: { node: NodeRecord; worker: WorkerRecord | undefined; connected: boolean; untilMs: number };
}

export interface NodesMemory {
  /** By key of the node. */
  shown: ReadonlyMap<string, Shown>;
  /** By id of the row: what it says of its agent. */
  rows: ReadonlyMap<string, AgentFacts>;
  /** What a predecessor's rows say of agents, by id, until this leader has looked; */
  inherited: ReadonlyMap<string, AgentFacts>;
  /** and those rows, where what they say is known to be published. */
  published: ReadonlyMap<string, WorkerRecord>;
  halts: HaltMemory;
}

export const NODE_EVENT_KINDS = ['joined', 'stale', 'dead', 'back', 'left'] as const;

export interface NodeEvent {
  kind: (typeof NODE_EVENT_KINDS)[number];
  node: string;
  target: string;
}

/** A node that is to be ended: its machine is there, as far as anybody knows, and it says nothing. */
export interface Death {
  node: NodeRecord;
  target: string;
  /** Its machine, if another source than its agent knows that. */
  worker: WorkerRecord | undefined;
  isStreaming: boolean;
  /** When it was last heard of: tells one death of a node from another. */
  seenMs: number;
}

export interface NodesPlan {
  upserts: WorkerRecord[];
  /** Ids of rows that nobody has any more. */
  removed: string[];
  events: NodeEvent[];
  deaths: Death[];
  /** More than a fifth of all, and more than one, died at once: none of them is to be ended. */
  isMassDeath: boolean;
  /** Keys of nodes to forget. */
  forget: string[];
  counts: Readonly<Record<Liveness, number>>;
  memory: NodesMemory;
}

/** What a predecessor's rows tell. `rows`: as they were published, with what agents say. */
export function inheritedMemory(rows: readonly WorkerRecord[]): NodesMemory {
  const inherited = new Map<string, AgentFacts>();
  const published = new Map(rows.map((row) => [row.id, row]));
  for (const row of rows) {
    const facts = factsIn(row);
    if (facts !== undefined) inherited.set(row.id, facts);
  }
  return { shown: new Map(), rows: new Map(inherited), inherited, published, halts: NO_HALTS };
}

/**
 * Yields now and then: thousands of nodes take a while, and whoever plans has more to do. `view` must be the same until the
 * end.
 */
export function* planNodes(view: NodesView, memory: NodesMemory): Generator<void, NodesPlan, void> {
  const { nodes, workers, nowMs } = view;
  const shown = new Map<string, Shown>();
  const rows = new Map<string, AgentFacts>();
  const upserts: WorkerRecord[] = [];
  const events: NodeEvent[] = [];
  const members: Parameters<typeof judgeHalts>[0][number][] = [];
  const deaths: Death[] = [];
  const forget: string[] = [];
  const counts = Object.fromEntries(LIVENESS_STATES.map((state) => [state, 0])) as Record<Liveness, number>;

  const judgedSince = sinceBoth(view.listening, view.termStartMs);
  for (const [i, node] of sorted(nodes, memory.shown).entries()) {
    if (i % NODES_PER_STEP === 0) yield;
    const worker = workerOf(node, workers, rows);
    const row = worker?.id ?? node.key;
    const before = memory.shown.get(node.key);
    const factsBefore = before?.facts ?? memory.inherited.get(row);
    const connected = view.isStreaming(node);
    const liveness = shownLiveness(node, view, judgedSince, factsBefore, before?.seenMs);
    const isSame = before !== undefined && isUnchanged(before, { node, worker, connected, liveness }, view);
    const now = isSame ? before : show({ node, worker, connected, liveness, row }, view, factsBefore);
    const { facts, seenMs } = now;
    shown.set(node.key, now);
    rows.set(row, facts);
    counts[liveness] += 1;
    const target = worker?.target ?? node.name;
    const event = eventOf(factsBefore?.liveness, liveness);
    if (event !== undefined) events.push({ kind: event, node: node.name, target });
    if (facts !== factsBefore || before === undefined || before.row !== row || before.own !== now.own) {
      const record = worker === undefined ? rowOfNode(node, facts) : withAgent(worker, facts);
      if (!isDeepStrictEqual(record, memory.published.get(row))) upserts.push(record);
    }
    const isLongDead = liveness === 'dead' && silenceMs(node, view.listening, nowMs) >= FORGET_MS;
    if (isLongDead || isOutOfHearing(node, view.listening, nowMs)) forget.push(node.key);
    if (!isExpected(node, worker)) continue;
    const bad = isSurelyDead(node, view, judgedSince);
    members.push({ name: node.key, group: '', wasReady: true, bad });
    if (bad) deaths.push({ node, target, worker, isStreaming: connected, seenMs });
  }

  yield;
  const removed: string[] = [];
  for (const [row, facts] of memory.rows) {
    if (rows.has(row)) continue;
    const worker = workers.get(row);
    if (worker === undefined) removed.push(row);
    else upserts.push(worker);
    events.push({ kind: 'left', node: facts.node, target: worker?.target ?? facts.node });
  }
  yield;
  const { halted, memory: halts } = judgeHalts(members, memory.halts, nowMs);
  return {
    ...{ upserts, removed, events, deaths, forget, counts, isMassDeath: halted.size > 0 },
    memory: { shown, rows, inherited: new Map(), published: new Map(), halts },
  };
}

interface Found {
  node: NodeRecord;
  worker: WorkerRecord | undefined;
  connected: boolean;
  liveness: Liveness;
}

/**
 * True if nothing that a row shows can have changed. Nine of ten nodes are like that at each look; without this, thousands of
 * them would hold up everything else a monitor does.
 */
function isUnchanged({ basis, facts }: Shown, found: Found, { nowMs }: NodesView): boolean {
  return (
    basis.node === found.node &&
    basis.worker === found.worker &&
    basis.connected === found.connected &&
    facts.liveness === found.liveness &&
    nowMs < basis.untilMs
  );
}

function show({ row, ...found }: Found & { row: string }, view: NodesView, factsBefore: AgentFacts | undefined): Shown {
  const { node, worker, connected, liveness } = found;
  const { nowMs } = view;
  const { staleMs } = view.limits;
  const facts = factsOf(node, { liveness, connected, staleMs, nowMs }, factsBefore);
  const own = worker === undefined ? saidByItself(node) : undefined;
  const untilMs = factsHoldUntilMs(node, facts, staleMs);
  return { facts, row, own, seenMs: lastSeenMs(node), basis: { node, worker, connected, untilMs } };
}

function saidByItself({ registration }: NodeRecord): string {
  return JSON.stringify([registration?.public_ip, registration?.nebula_ip, registration?.labels]);
}

/** Always in one order: where two nodes would be one worker, it is always the same one. */
function sorted(nodes: ReadonlyMap<string, NodeRecord>, before: ReadonlyMap<string, unknown>): NodeRecord[] {
  const keys: string[] = [];
  for (const key of before.keys()) if (nodes.has(key)) keys.push(key);
  // Those of the last look are in order already.
  const known = keys.length;
  for (const key of nodes.keys()) if (!before.has(key)) keys.push(key);
  return (keys.length > known ? keys.toSorted() : keys).map((key) => nodes.get(key) as NodeRecord);
}

/** The worker that a node is: by its instance id, else the one that a script manages under its name. */
function workerOf(
  { key, name, registration }: NodeRecord,
  workers: ReadonlyMap<string, WorkerRecord>,
  taken: ReadonlyMap<string, unknown>,
): WorkerRecord | undefined {
  const instance = registration?.instance_id ?? '';
  const byId =
    workers.get(key) ??
    workers.get(instance) ??
    workers.get(scriptIdOf(key)) ??
    (instance === '' ? undefined : workers.get(scriptIdOf(instance)));
  if (byId !== undefined && !taken.has(byId.id)) return byId;
  const byName = workers.get(scriptIdOf(name));
  return byName?.source === SCRIPT_SOURCE && !taken.has(byName.id) ? byName : undefined;
}

/** Since when somebody has listened and this leader has led. */
function sinceBoth(listening: ListeningSince, termStartMs: number): ListeningSince {
  const entries = Object.entries(listening).map(([channel, ms]) => [channel, Math.max(ms, termStartMs)]);
  return Object.fromEntries(entries) as ListeningSince;
}

function shownLiveness(
  node: NodeRecord,
  view: NodesView,
  judgedSince: ListeningSince,
  before: AgentFacts | undefined,
  exactMs: number | undefined,
): Liveness {
  const { listening, limits, nowMs } = view;
  const liveness = livenessOf(node, listening, limits, nowMs);
  const seenMs = lastSeenMs(node);
  const isUnheard = before !== undefined && seenMs <= (exactMs ?? before.seenMs);
  if (before?.liveness === 'dead' && isUnheard) return 'dead';
  if (liveness === 'dead' && !isSurelyDead(node, view, judgedSince)) return 'stale';
  if (before?.liveness === 'stale' && isUnheard && isLiving(liveness)) return 'stale';
  return liveness;
}

/** Silent for a whole period in which it was listened for, and this leader led. */
function isSurelyDead(node: NodeRecord, { limits, nowMs }: NodesView, judgedSince: ListeningSince): boolean {
  return silenceMs(node, judgedSince, nowMs) >= limits.deadMs;
}

/** Whether anybody expects to hear of it: not of a machine that is stopped, or gone, and not of one that never came. */
function isExpected(node: NodeRecord, worker: WorkerRecord | undefined): boolean {
  if (worker !== undefined && phaseOfRecord(worker) !== 'running') return false;
  return node.registration !== undefined || node.status !== undefined;
}

function eventOf(before: Liveness | undefined, now: Liveness): NodeEvent['kind'] | undefined {
  if (before === undefined) return 'joined';
  if (before === now) return undefined;
  if (now === 'stale' || now === 'dead') return now;
  return isLiving(before) ? undefined : 'back';
}
