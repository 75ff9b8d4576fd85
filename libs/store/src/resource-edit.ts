/**
 * How a manifest, which an owner writes, becomes and changes a resource, which the store keeps. Pure: the caller
 * writes the result.
 */
import type { Manifest, Metadata, Resource, ResourceOf } from '@carrierarr/protocol';
import { TERMINATE_FINALIZER } from '@carrierarr/protocol';
import { canonicalJson } from './canonical-json.js';

export interface Birth {
  uid: string;
  nowIso: string;
  /** The pool that makes it. */
  owner?: NonNullable<Metadata['owner']>;
  /** Of the template that the pool makes it from. */
  templateHash?: string;
}

/** A new resource. A Worker stays after its deletion until its machine is terminated. */
export function createResource<M extends Manifest>(manifest: M, birth: Birth): ResourceOf<M['kind']> {
  const { uid, nowIso, owner, templateHash } = birth;
  const metadata: Metadata = {
    name: manifest.metadata.name,
    labels: manifest.metadata.labels,
    uid,
    generation: 1,
    // Not stored yet.
    resourceVersion: '0',
    creationTimestamp: nowIso,
    finalizers: manifest.kind === 'Worker' ? [TERMINATE_FINALIZER] : [],
    ...(owner && { owner }),
    ...(templateHash !== undefined && { templateHash }),
  };
  const { apiVersion, kind, spec } = manifest;
  return { apiVersion, kind, metadata, spec } as ResourceOf<M['kind']>;
}

/** The resource as the manifest wants it: labels and spec replaced, all else kept. A spec that differs is a new generation. */
export function updateResource<T extends Resource>(resource: T, manifest: Manifest): T {
  if (manifest.kind !== resource.kind || manifest.metadata.name !== resource.metadata.name) {
    throw new TypeError(
      `Expected a manifest of ${resource.kind} "${resource.metadata.name}", ` +
        `got one of ${manifest.kind} "${manifest.metadata.name}".`,
    );
  }
  const isSameSpec = canonicalJson(manifest.spec) === canonicalJson(resource.spec);
  const generation = resource.metadata.generation + (isSameSpec ? 0 : 1);
  const metadata = { ...resource.metadata, labels: manifest.metadata.labels, generation };
  return { ...resource, metadata, spec: manifest.spec };
}

/** The resource as to be deleted, from when that was first asked for. An orphan's machine is left alone. */
export function markDeleted<T extends Resource>(resource: T, nowIso: string, orphan: boolean): T {
  const { deletionTimestamp = nowIso, finalizers } = resource.metadata;
  const left = orphan ? finalizers.filter((finalizer) => finalizer !== TERMINATE_FINALIZER) : finalizers;
  return { ...resource, metadata: { ...resource.metadata, deletionTimestamp, finalizers: left } };
}
