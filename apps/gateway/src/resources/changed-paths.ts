/** What differs between two resources in what their owner writes: labels and spec. */
import type { Manifest, Resource } from '@carrierarr/protocol';

export interface ChangedPath {
  path: string;
  /** Left out if there was nothing. */
  from?: unknown;
  /** Left out if there will be nothing. */
  to?: unknown;
}

type Written = Pick<Manifest | Resource, 'spec'> & { metadata: { labels: Record<string, string> } };

/** Paths such as `spec.args.start`, in the order of the fields. A list is one value. `before` undefined: all is new. */
export function changedPaths(before: Written | undefined, after: Written): ChangedPath[] {
  const found: ChangedPath[] = [];
  compare('metadata.labels', before?.metadata.labels, after.metadata.labels, found);
  compare('spec', before?.spec, after.spec, found);
  return found;
}

function compare(path: string, from: unknown, to: unknown, found: ChangedPath[]): void {
  const [old, next] = [fieldsOf(from), fieldsOf(to)];
  if (next !== undefined && (old !== undefined || from === undefined)) {
    for (const key of new Set([...Object.keys(old ?? {}), ...Object.keys(next)])) {
      compare(`${path}.${key}`, old?.[key], next[key], found);
    }
  } else if (JSON.stringify(from) !== JSON.stringify(to)) {
    found.push({ path, ...(from !== undefined && { from }), ...(to !== undefined && { to }) });
  }
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}
