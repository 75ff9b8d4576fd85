/** `carrierarr get nodes`: once, or with each change until Ctrl-C. */
import { type Clock, sleep, systemClock } from '@carrierarr/platform/light';
import type { NodeBody } from '@carrierarr/protocol';
import type { Change } from '../client/change.js';
import { FleetApi } from '../client/fleet-api.js';
import type { GatewayAccess } from '../client/settings.js';
import { GatewayFailure, isOfAll } from '../client/unreachable.js';
import { EXIT } from '../exit.js';
import type { Host } from '../host.js';
import type { Output } from '../terminal/output.js';
import { type OutputFormat, writeItems } from './get-resources.js';
import { nodeColumns } from './node-rows.js';
import { changeWriter, untilEnded } from './watching.js';

export interface GetNodesOptions {
  readonly access: GatewayAccess;
  /** Any names or targets of nodes; empty for all. */
  readonly names: readonly string[];
  readonly format: OutputFormat;
  readonly isWatching: boolean;
  /** With a change of what kind it was. */
  readonly withEvents: boolean;
  readonly giveUpAfterMs: number;
}

/** Between two looks of a watch, ms. A gateway reads the nodes twice a second at most, however many ask. */
const LOOK_EVERY_MS = 2_000;

export async function getNodes(options: GetNodesOptions, output: Output, host: Host): Promise<number> {
  const api = new FleetApi(options.access);
  if (!options.isWatching) return once(options, api, output);
  return untilEnded(host, (signal) => watch(options, api, output, signal));
}

async function once({ names, format }: GetNodesOptions, api: FleetApi, output: Output): Promise<number> {
  const all = await api.nodes();
  const found = all.filter((node) => isWanted(node, names));
  const missing = names.filter((name) => !all.some((node) => isWanted(node, [name])));
  for (const name of missing) output.notice(`There is no node ${name}.`);
  if (all.length === 0 && names.length === 0 && (format === 'table' || format === 'wide')) {
    output.notice('There are no nodes: no agent has announced itself.');
  } else if (found.length > 0) {
    writeItems(found, format, nodeColumns(format === 'wide'), output, ({ id }) => id);
  }
  return missing.length > 0 ? EXIT.partly : EXIT.done;
}

/** Ends by an error, or by Ctrl-C. */
async function watch(options: GetNodesOptions, api: FleetApi, output: Output, signal: AbortSignal): Promise<number> {
  const { names, format, withEvents } = options;
  const columns = nodeColumns(format === 'wide');
  const write = changeWriter<NodeBody>(
    {
      ...{ format, withEvents, columns, keyOf: ({ id }) => id, nameOf: ({ id }) => id },
      gone: (row) => row.with(STATE_COLUMN, 'gone'),
      still: (node) => columns.row(stillOf(node), 0),
    },
    output,
  );
  let shown = new Map<string, NodeBody>();
  while (!signal.aborted) {
    const all = await patiently(options, output, () => api.nodes());
    if (signal.aborted) break;
    const now = new Map(all.filter((node) => isWanted(node, names)).map((node) => [node.id, node]));
    write(changesOf(shown, now));
    shown = now;
    await output.drained();
    await sleep(systemClock, LOOK_EVERY_MS);
  }
  return EXIT.done;
}

function changesOf(before: ReadonlyMap<string, NodeBody>, now: ReadonlyMap<string, NodeBody>): Change<NodeBody>[] {
  const changes: Change<NodeBody>[] = [];
  for (const [id, node] of now) {
    const known = before.get(id);
    if (known === undefined) changes.push({ type: 'ADDED', object: node });
    else if (JSON.stringify(stillOf(known)) !== JSON.stringify(stillOf(node))) {
      changes.push({ type: 'MODIFIED', object: node });
    }
  }
  for (const [id, node] of before) if (!now.has(id)) changes.push({ type: 'DELETED', object: node });
  return changes;
}

/** Without what changes by time alone. */
function stillOf(node: NodeBody): NodeBody {
  const { uptime_seconds: _uptime, idle_seconds: _idle, idle_since: idleSince, ...rest } = node;
  return { ...rest, last_seen: EPOCH, ...(idleSince !== undefined && { idle_since: EPOCH }) };
}

const EPOCH = new Date(0).toISOString();
const STATE_COLUMN = 3;

/** Tries again while the gateway is away, up to the bound. */
async function patiently<T>({ giveUpAfterMs }: GetNodesOptions, output: Output, work: () => Promise<T>): Promise<T> {
  const clock: Clock = systemClock;
  const beganMs = clock.monotonicMs();
  for (let isTold = false; ; isTold = true) {
    try {
      return await work();
    } catch (error) {
      const isPassing = error instanceof GatewayFailure && isOfAll(error) && error.code !== 'unauthenticated';
      if (!isPassing || clock.monotonicMs() - beganMs > giveUpAfterMs) throw error;
      if (!isTold) output.notice(`${error.message} Trying again.`);
      await sleep(clock, LOOK_EVERY_MS);
    }
  }
}

function isWanted({ id, instance_id: instance, target }: NodeBody, names: readonly string[]): boolean {
  return names.length === 0 || names.some((name) => [id, instance, target].includes(name));
}
