/** Desired state in a test's own hand: resources written and read straight in Redis, and the executions that came of them. */
import { randomUUID } from 'node:crypto';
import {
  type Execution,
  Keys,
  type Manifest,
  manifestSchema,
  RESOURCE_API_VERSION,
  type Resource,
  type WorkerResource,
} from '@carrierarr/protocol';
import {
  createResource,
  defineScripts,
  ExecutionHistory,
  markDeleted,
  type RedisConnection,
  ResourceEvents,
  ResourceStore,
  updateResource,
} from '@carrierarr/store';
import { until } from './until.js';

const EXECUTIONS_MAX = 5_000;
const DEFAULT_PREFIX = 'carrierarr';

/** What of a manifest a test has to say. */
export interface Wanted {
  kind: Manifest['kind'];
  name: string;
  spec?: Record<string, unknown>;
}

export function fleetOf(redis: { client(): RedisConnection }, prefix = DEFAULT_PREFIX) {
  const connection = redis.client();
  defineScripts(connection);
  const keys = new Keys(prefix);
  const resources = new ResourceStore({ connection, keys });
  const events = new ResourceEvents({ connection, keys });
  const history = new ExecutionHistory(connection, keys);

  const apply = async ({ kind, name, spec = {} }: Wanted): Promise<Resource> => {
    const manifest = manifestSchema.parse({ apiVersion: RESOURCE_API_VERSION, kind, metadata: { name }, spec });
    for (;;) {
      const present = await resources.get(kind, name);
      const next: Resource =
        present === undefined
          ? createResource(manifest, { uid: randomUUID(), nowIso: new Date().toISOString() })
          : updateResource(present, manifest);
      const answer = await resources.put(next, present?.metadata.resourceVersion ?? '0');
      // A monitor may have written its status meanwhile.
      if (answer.kind === 'ok') return answer.resource;
    }
  };

  return {
    ...{ connection, keys, resources, events, history, apply },

    /** Makes a Worker, or changes its spec. */
    worker: (name: string, spec: Record<string, unknown> = {}) => apply({ kind: 'Worker', name, spec }),

    /** Makes a pool whose Workers have this template, or changes it. */
    pool: (name: string, spec: Record<string, unknown>, template: Record<string, unknown> = {}) =>
      apply({ kind: 'WorkerPool', name, spec: { ...spec, template: { spec: template } } }),

    async delete(kind: Manifest['kind'], name: string): Promise<void> {
      for (;;) {
        const present = await resources.get(kind, name);
        if (present === undefined) return;
        const marked = markDeleted(present, new Date().toISOString(), false);
        if ((await resources.put(marked, present.metadata.resourceVersion)).kind === 'ok') return;
      }
    },

    async workers(): Promise<WorkerResource[]> {
      return (await resources.list('Worker')).items;
    },

    /** Resolves when exactly these Workers are there and each is in the phase. */
    async settled(names: readonly string[], phase: string, timeoutMs = 40_000): Promise<WorkerResource[]> {
      let seen = '';
      return until(
        () => `${names.join(', ')} to be ${phase}; it is ${seen}`,
        async () => {
          const { items } = await resources.list('Worker');
          seen = items
            .map(({ metadata, status }) => {
              const synced = status?.conditions.find(({ type }) => type === 'Synced');
              return `${metadata.name}=${status?.phase} (${synced?.reason}: ${synced?.message})`;
            })
            .join(', ');
          const isSettled = items.every(
            ({ metadata, status }) => status?.phase === phase && status.observedGeneration === metadata.generation,
          );
          const isWhole = items.map(({ metadata }) => metadata.name).join() === names.toSorted().join();
          return isWhole && isSettled && items;
        },
        timeoutMs,
      );
    },

    /** All executions but looks at the status, oldest first. */
    async executions(): Promise<Execution[]> {
      const { executions } = await history.list({ limit: EXECUTIONS_MAX });
      return executions.filter(({ command }) => command !== 'status').toReversed();
    },

    /** Who leads, by the lease itself; undefined while nobody does. */
    async leader(): Promise<{ monitor: string; fence: number } | undefined> {
      const { holder, fence } = await connection.hgetall(keys.leader());
      const monitor = holder?.split(' ', 1)[0];
      return monitor === undefined ? undefined : { monitor, fence: Number(fence) };
    },
  };
}

export type TestFleet = ReturnType<typeof fleetOf>;

/** Tokens that more than one execution has: each is a command that was given twice. */
export function doubled(executions: readonly Execution[]): string[] {
  const seen = new Set<string>();
  return executions.flatMap(({ client_id, target }) => {
    const token = `${target} ${client_id}`;
    if (client_id === undefined || !seen.has(token)) {
      seen.add(token);
      return [];
    }
    return [token];
  });
}
