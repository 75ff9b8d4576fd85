import { createResource, markDeleted, updateResource } from '@carrierarr/store';
import {
  RESOURCE_API_VERSION,
  resourceSchema,
  TERMINATE_FINALIZER,
  workerPoolManifestSchema,
  type WorkerResource,
} from '@carrierarr/protocol';
import { describe, expect, it } from 'vitest';
import { BIRTH, workerManifest, workerResource } from './support/control.js';

const pool = workerPoolManifestSchema.parse({
  apiVersion: RESOURCE_API_VERSION,
  kind: 'WorkerPool',
  metadata: { name: 'p' },
  spec: { replicas: 2, template: { spec: {} } },
});

describe('a new resource', () => {
  it('is of the first generation, and a Worker waits for its machine when it goes', () => {
    const worker = createResource(workerManifest('w1', {}, { team: 'a' }), BIRTH);
    expect(resourceSchema.parse(worker)).toEqual(worker);
    expect(worker.metadata).toEqual({
      ...{ name: 'w1', labels: { team: 'a' }, uid: 'u-1', generation: 1, resourceVersion: '0' },
      ...{ creationTimestamp: BIRTH.nowIso, finalizers: [TERMINATE_FINALIZER] },
    });
    expect(createResource(pool, BIRTH).metadata.finalizers).toEqual([]);
  });

  it('remembers the pool that made it', () => {
    const owner = { kind: 'WorkerPool', name: 'p', uid: 'u-0' } as const;
    const worker = createResource(workerManifest('p-0'), { ...BIRTH, owner, templateHash: 'h' });
    expect(worker.metadata).toMatchObject({ owner, templateHash: 'h' });
  });
});

describe('an update', () => {
  const status: NonNullable<WorkerResource['status']> = {
    ...{ observedGeneration: 1, phase: 'Running', conditions: [], target: 'w1', attempts: 0, failures: 0 },
  };
  const worker: WorkerResource = { ...workerResource('w1', { args: { start: ['a'], stop: ['b'] } }), status };

  it('of the spec is a new generation, and keeps everything else', () => {
    const updated = updateResource(worker, workerManifest('w1', { desired: 'stopped' }));
    expect(updated.metadata).toEqual({ ...worker.metadata, generation: 2 });
    expect(updated.spec.desired).toBe('stopped');
    expect(updated.status).toEqual(status);
    expect(worker.metadata.generation).toBe(1);
  });

  it('with an equal spec is none, in whatever order it is written', () => {
    const updated = updateResource(worker, workerManifest('w1', { args: { stop: ['b'], start: ['a'] } }));
    expect(updated.metadata.generation).toBe(1);
  });

  it('replaces labels without a new generation', () => {
    const labelled = updateResource(worker, workerManifest('w1', worker.spec, { a: '1' }));
    expect(labelled.metadata).toMatchObject({ labels: { a: '1' }, generation: 1 });
    expect(updateResource(labelled, workerManifest('w1', worker.spec, { b: '2' })).metadata.labels).toEqual({ b: '2' });
  });

  it('does not take a deletion back', () => {
    const going = markDeleted(worker, '2025-02-01T00:00:00.000Z', false);
    const updated = updateResource(going, workerManifest('w1', { desired: 'absent' }));
    expect(updated.metadata.deletionTimestamp).toBe('2025-02-01T00:00:00.000Z');
  });

  it('with a manifest of another resource is refused', () => {
    expect(() => updateResource(worker, workerManifest('w2'))).toThrow(
      /manifest of Worker "w1", got one of Worker "w2"/,
    );
    expect(() => updateResource(worker, pool)).toThrow(TypeError);
  });
});

describe('a deletion', () => {
  const worker = workerResource('w1');

  it('keeps the time of its first request and the finalizer', () => {
    const going = markDeleted(
      markDeleted(worker, '2025-02-01T00:00:00.000Z', false),
      '2025-03-01T00:00:00.000Z',
      false,
    );
    expect(going.metadata).toEqual({ ...worker.metadata, deletionTimestamp: '2025-02-01T00:00:00.000Z' });
  });

  it('that orphans drops the finalizer of the machine, also later, and no other', () => {
    const guarded = { ...worker, metadata: { ...worker.metadata, finalizers: ['mine', TERMINATE_FINALIZER] } };
    const going = markDeleted(guarded, '2025-02-01T00:00:00.000Z', false);
    expect(markDeleted(going, '2025-03-01T00:00:00.000Z', true).metadata.finalizers).toEqual(['mine']);
  });
});
