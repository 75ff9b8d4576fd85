/**
 * Every Redis key and channel, in one place.
 *
 * Targets are spread over a fixed number of *partitions*; everything about a target lies in its partition's hash
 * slot (`{17}`), so one Lua call can touch its queue, its lease, its log and its channels on Redis Cluster too. A
 * partition also has a channel with the output of all its targets: a gateway whose clients watch everything holds
 * 64 subscriptions, however many targets there are, and learns of new targets by itself. (Sharded pub/sub has no
 * patterns, so PSUBSCRIBE is no way to do that.)
 */

import type { NodeChannel } from './nodes/node-record.js';
import type { ResourceKind } from './resources.js';

/** Number of partitions. Part of the stored format: changing it needs a migration. */
export const PARTITIONS = 64;

/** Version of the layout of keys and values; a program refuses to work on a store of another one. */
export const STORE_FORMAT = 1;

/** The partition of a target: FNV-1a (32 bits) of its UTF-8 bytes, modulo {@link PARTITIONS}. */
export function partitionOf(target: string): number {
  let hash = FNV_OFFSET;
  for (let i = 0; i < target.length; i += 1) {
    const unit = target.charCodeAt(i);
    if (unit > 0x7f) return partitionOfBytes(Buffer.from(target, 'utf8'));
    // A byte of its own in UTF-8: nearly all targets need no more than this.
    hash = Math.imul(hash ^ unit, FNV_PRIME);
  }
  return (hash >>> 0) % PARTITIONS;
}

function partitionOfBytes(bytes: Buffer): number {
  let hash = FNV_OFFSET;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, FNV_PRIME);
  return (hash >>> 0) % PARTITIONS;
}

const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

const EXECUTION_ID = /^[0-9a-hjkmnp-tv-z]{26}-([0-9a-f]{2})$/;

/** An execution's id is a ULID (sorts by time of acceptance) and its partition, so the record is found by id alone. */
export function executionIdOf(ulid: string, target: string): string {
  return `${ulid.toLowerCase()}-${partitionOf(target).toString(16).padStart(2, '0')}`;
}

/** The partition named by an execution id, or undefined if the text is not an execution id. */
export function partitionOfExecution(id: string): number | undefined {
  const match = EXECUTION_ID.exec(id);
  if (!match?.[1]) return undefined;
  const partition = Number.parseInt(match[1], 16);
  return partition < PARTITIONS ? partition : undefined;
}

/** Names of keys and channels below one prefix (`--redis-key-prefix`), which separates installations in one Redis. */
export class Keys {
  /** BullMQ's key prefix. In braces: all of its keys in one slot, as its own scripts need on Cluster. */
  readonly bullPrefix: string;

  constructor(readonly prefix: string) {
    this.bullPrefix = `{${prefix}:bull}`;
  }

  /** One key of each hash slot in which anything lies: who can read all of these reaches all of the store on Redis Cluster. */
  ofEachSlot(): string[] {
    const partitions = Array.from({ length: PARTITIONS }, (_, partition) => this.targets(partition));
    return [...partitions, this.format(), this.runners(), this.leader(), this.nodesMeta(), `${this.bullPrefix}:meta`];
  }

  private at(partition: number, name: string): string {
    return `${this.prefix}:{${partition}}:${name}`;
  }

  private of(target: string, name: string): string {
    return this.at(partitionOf(target), `${name}:${target}`);
  }

  // --- one target -----------------------------------------------------------------------------------------------

  /** Stream of output entries; an entry's id is `<offset of its last line>-0`. */
  log(target: string): string {
    return this.of(target, 'log');
  }
  /** Hash: epoch, last offset, sizes of the log. */
  logMeta(target: string): string {
    return this.of(target, 'meta');
  }
  /** List of closed segments `<last offset>:<bytes>:<time ms>`, for trimming by bytes and age. */
  logSegments(target: string): string {
    return this.of(target, 'segs');
  }
  /** List of ids of accepted executions that have not started. */
  queue(target: string): string {
    return this.of(target, 'queue');
  }
  /** Hash: the execution that holds the target now (or keeps it closed after its runner was lost). */
  lease(target: string): string {
    return this.of(target, 'lease');
  }
  /** Integer: the last fence given out. */
  fence(target: string): string {
    return this.of(target, 'fence');
  }
  /** Sorted set of the target's execution ids by time of acceptance. */
  executionsOf(target: string): string {
    return this.of(target, 'execs');
  }
  /** String: the execution id first accepted for a client's idempotency id. */
  idempotency(target: string, subject: string, clientId: string): string {
    return this.of(target, `idem:${encodeURIComponent(subject)}:${encodeURIComponent(clientId)}`);
  }
  /** Channel: output of one target. */
  outputChannel(target: string): string {
    return this.of(target, 'out');
  }

  // --- one partition --------------------------------------------------------------------------------------------

  /** Hash: the record of one execution. */
  execution(id: string): string {
    const partition = partitionOfExecution(id);
    if (partition === undefined) throw new TypeError(`not an execution id: ${JSON.stringify(id)}`);
    return this.at(partition, `exec:${id}`);
  }
  /** What {@link Keys.execution} puts before an id of this partition, for scripts that find the id in Redis. */
  executionPrefix(partition: number): string {
    return this.at(partition, 'exec:');
  }
  /** Sorted set of the partition's execution ids by time of acceptance. */
  executions(partition: number): string {
    return this.at(partition, 'execs');
  }
  /** Integer: number of log entries ever written in the partition. */
  partitionSequence(partition: number): string {
    return this.at(partition, 'pseq');
  }
  /** Sorted set: target by the partition sequence of its newest entry. */
  active(partition: number): string {
    return this.at(partition, 'active');
  }
  /** Sorted set: target by time (ms) since when it has commands that could start. */
  pending(partition: number): string {
    return this.at(partition, 'pending');
  }
  /** Set of targets that have a lease. */
  leases(partition: number): string {
    return this.at(partition, 'leases');
  }
  /** Sorted set: every known target by time (ms) of its last command or output. */
  targets(partition: number): string {
    return this.at(partition, 'targets');
  }
  /** Hash: target to bytes held by its log. */
  usage(partition: number): string {
    return this.at(partition, 'usage');
  }
  /** Channel: output of every target of the partition. */
  partitionChannel(partition: number): string {
    return this.at(partition, 'all');
  }
  /** Channel on which one gateway checks that its subscription is alive. */
  probeChannel(partition: number, gatewayId: string): string {
    return this.at(partition, `probe:${gatewayId}`);
  }

  // --- the installation -----------------------------------------------------------------------------------------

  /** String: version of the layout of all this ({@link STORE_FORMAT}). */
  format(): string {
    return `${this.prefix}:format`;
  }
  /** Sorted set: runner id by time (ms) last seen. */
  runners(): string {
    return `${this.prefix}:{runners}:seen`;
  }
  /** Hash: what one runner says about itself. */
  runner(id: string): string {
    return `${this.prefix}:{runners}:runner:${id}`;
  }
  /** Channel on which runners are told of kill requests. */
  killChannel(): string {
    return `${this.prefix}:{runners}:kill`;
  }
  /** Lock of the one runner that sweeps history now. */
  retentionLock(): string {
    return `${this.prefix}:{runners}:retention`;
  }

  // --- monitors and desired state: one slot, so that each write can check who leads ---------------------------------

  private control(name: string): string {
    return `${this.prefix}:{control}:${name}`;
  }

  /** Hash: the monitor that leads (`holder`), its `fence`, and until when (`until`, Redis' ms). */
  leader(): string {
    return this.control('leader');
  }
  /** Integer: the last fence given to a leader. */
  leaderFence(): string {
    return this.control('leader-fence');
  }
  /** Channel: the leader has gone, or there is a new one. */
  leaderChannel(): string {
    return this.control('leader-changed');
  }
  /** Hash: worker id to WorkerRecord (JSON). */
  workers(): string {
    return this.control('workers');
  }
  /** Sorted set: worker id by the status version of its last change. */
  workerVersions(): string {
    return this.control('worker-versions');
  }
  /** Sorted set: ids of workers that were removed, by the version of that. */
  removedWorkers(): string {
    return this.control('workers-removed');
  }
  /** Hash: worker id to when it was last seen (epoch ms), for workers that are looked at one by one. */
  workersSeen(): string {
    return this.control('workers-seen');
  }
  /** Hash: `epoch`, `version`, and `floor` (the newest version whose removals are forgotten) of the status. */
  statusMeta(): string {
    return this.control('status');
  }
  /** Hash: source to SourceReport (JSON). */
  sources(): string {
    return this.control('sources');
  }
  /** Hash: id of a machine of ours that belongs to no Worker to Orphan (JSON). */
  orphans(): string {
    return this.control('orphans');
  }
  /** Channel: the status changed; the message is its version. */
  statusChannel(): string {
    return this.control('status-changed');
  }
  /** Hash: name to `<revision> <resource, JSON without its resourceVersion>`. */
  resources(kind: ResourceKind): string {
    return this.control(`resources:${kind}`);
  }
  /** Hash: target to the name of the Worker that has it. */
  resourceTargets(): string {
    return this.control('resource-targets');
  }
  /** Integer: revision of the newest change of any resource. */
  resourceRevision(): string {
    return this.control('revision');
  }
  /** Stream of changes of resources; an entry's id is `<revision>-0`. */
  resourceJournal(): string {
    return this.control('journal');
  }
  /** Channel: a resource changed; the message is the revision. */
  resourceChannel(): string {
    return this.control('resources-changed');
  }
  /** Hash: `[type, reason, message]` (JSON) to `<count> <first ms> <last ms>`. */
  resourceEvents(kind: ResourceKind, name: string): string {
    return this.control(`events:${kind}:${name}`);
  }
  /** Integer: the newest leader's fence that a partition knows; commands of older leaders are refused. */
  controllerFence(partition: number): string {
    return this.at(partition, 'controller');
  }

  // --- nodes: machines with an agent. One slot, so that names, streams and what was said change together ------------

  private nodes(name: string): string {
    return `${this.prefix}:{nodes}:${name}`;
  }

  /** Hash: node key to its name. Whoever is in here is known. */
  nodeNames(): string {
    return this.nodes('names');
  }
  /** Hash: every name a node was called by to its key. */
  nodeAliases(): string {
    return this.nodes('aliases');
  }
  /** Hash: node key to what it said in a registration, by either channel, a status or a heartbeat (JSON). */
  nodePart(part: `registration:${NodeChannel}` | 'status' | 'heartbeat'): string {
    return this.nodes(part);
  }
  /** String with an expiry: when a node that was held for dead and ended had last been heard of, epoch ms. */
  nodeEnded(node: string): string {
    return this.nodes(`ended:${node}`);
  }
  /** Hash: node key to `<fence> <since ms> <monitor>`, or `<fence> <end ms>` once its last stream has ended. */
  nodeStreams(): string {
    return this.nodes('streams');
  }
  /** Sorted set: node key by when it was last heard on a channel, epoch ms. */
  nodesSeen(channel: NodeChannel): string {
    return this.nodes(`seen:${channel}`);
  }
  /** Sorted set: node key by the version of its last change. */
  nodeVersions(): string {
    return this.nodes('versions');
  }
  /** Sorted set: names and keys of nodes that said that they go, also with when by their own clock and in which start, by when, epoch ms. */
  nodesLeft(): string {
    return this.nodes('left');
  }
  /** Sorted set: keys of nodes that were removed, by the version of that. */
  removedNodes(): string {
    return this.nodes('removed');
  }
  /** Hash: `epoch`, `version`, `floor` (as of the status) of all nodes, newest `fence`, and `limits` of liveness, ms. */
  nodesMeta(): string {
    return this.nodes('meta');
  }
  /** Hash: channel, or `none` where no monitor serves agents, to `<since ms> <until ms>`: that has been so without a pause. */
  listening(): string {
    return this.nodes('listening');
  }
  /** Sorted set: monitor that serves agents by when it was last seen, epoch ms. */
  servingMonitors(): string {
    return this.nodes('monitors');
  }
  /** Channel: a node has a new stream; the message is `<fence> <node key>`. */
  streamsChannel(): string {
    return this.nodes('stream-opened');
  }
  /** Set of ids of executions that are under way on an agent, or about to be. */
  agentMailOpen(): string {
    return this.nodes('mail-open');
  }
  /** Hash: request, how far it got, and result of one execution on an agent. */
  agentMail(execution: string): string {
    return this.nodes(`mail:${execution}`);
  }
  /** String with an expiry: that the log was told of a result which came after the execution was held for lost. */
  lateResult(execution: string): string {
    return this.nodes(`late:${execution}`);
  }
  /** Channel: there is news for an agent; the message is `<execution> <node key>`. */
  agentMailChannel(): string {
    return this.nodes('mail-sent');
  }
  /** Channel: there is news from an agent; the message is the execution's id. */
  agentAnswerChannel(): string {
    return this.nodes('mail-answered');
  }
}
