/** A short name for the content of a template: equal content, equal name, in whatever order its keys were written. */
import { createHash } from 'node:crypto';
import type { WorkerPoolSpec } from '@carrierarr/protocol';

export function templateHashOf(template: WorkerPoolSpec['template']): string {
  return createHash('sha256').update(canonicalJson(template)).digest('hex').slice(0, 16);
}

/** JSON with the keys of each object in order. What is undefined counts as not there. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const fields = Object.entries(value)
    .filter(([, field]) => field !== undefined)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, field]) => `${JSON.stringify(key)}:${canonicalJson(field)}`);
  return `{${fields.join(',')}}`;
}
