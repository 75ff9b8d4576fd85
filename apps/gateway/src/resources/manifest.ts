/**
 * From what a client sent to a manifest. What `get -o yaml` prints is accepted back: `status` and the server's part of
 * the metadata are left aside. Everything else must fit the schema, and all that does not is told at once.
 */
import {
  ClientError,
  type Issue,
  type Manifest,
  manifestSchema,
  metadataSchema,
  RESOURCE_KINDS,
  type ResourceKind,
} from '@carrierarr/protocol';
import { shown } from '../problem.js';

/** Problems listed in one answer. */
const ISSUES_MAX = 50;
/** Those that the text of the error names too. */
const ISSUES_IN_TEXT_MAX = 5;

const METADATA_FIELDS: ReadonlySet<string> = new Set(Object.keys(metadataSchema.shape));
const WRITTEN_METADATA: ReadonlySet<string> = new Set(['name', 'labels', 'resourceVersion']);

/** What the route says that it must be. */
export interface Expected {
  kind?: ResourceKind;
  name?: string;
}

/** Throws ClientError `bad_resource` with every issue. */
export function manifestOf(input: unknown, expected: Expected = {}): Manifest {
  const issues: Issue[] = [];
  const written = withoutServerFields(input, issues);
  const parsed = manifestSchema.safeParse(written);
  if (!parsed.success) issues.push(...parsed.error.issues.flatMap((issue) => issuesOf(issue, written)));
  const { kind, metadata } = (written ?? {}) as { kind?: unknown; metadata?: { name?: unknown } };
  if (expected.kind !== undefined && isKind(kind) && kind !== expected.kind) {
    issues.push({ path: 'kind', value: shown(kind), message: `must be ${expected.kind}, as this route is for those` });
  }
  if (expected.name !== undefined && typeof metadata?.name === 'string' && metadata.name !== expected.name) {
    issues.push({
      path: 'metadata.name',
      value: shown(metadata.name),
      message: `must be ${shown(expected.name)}, the name in the path; a resource cannot be renamed`,
    });
  }
  if (issues.length > 0 || !parsed.success) throw badResource(issues);
  return parsed.data;
}

/** The error for a resource with problems. Several manifests in one request: `of` says which this is. */
export function badResource(issues: readonly Issue[], of = 'the resource'): ClientError {
  const listed = issues.slice(0, ISSUES_MAX);
  const texts = listed.slice(0, ISSUES_IN_TEXT_MAX).map(({ path, value, message }) => {
    const got = value === undefined ? '' : ` (got ${value})`;
    return `${path === '' ? of : `\`${path}\``}: ${message}${got}`;
  });
  const more = issues.length - texts.length;
  return new ClientError(
    'bad_resource',
    `Cannot use ${of}. ${texts.join('; ')}${more > 0 ? `; and ${more} more` : ''}.`,
    { issues: listed },
  );
}

function isKind(value: unknown): value is ResourceKind {
  return (RESOURCE_KINDS as readonly unknown[]).includes(value);
}

function withoutServerFields(input: unknown, issues: Issue[]): unknown {
  if (!isRecord(input)) return input;
  const { status: _status, ...rest } = input;
  const { metadata } = rest;
  if (!isRecord(metadata)) return rest;
  for (const [field, value] of Object.entries(metadata)) {
    if (METADATA_FIELDS.has(field)) continue;
    const path = `metadata.${field}`;
    issues.push({ path, value: shown(value), message: `there is no such field; there are ${list(METADATA_FIELDS)}` });
  }
  const written = Object.entries(metadata).filter(([field]) => WRITTEN_METADATA.has(field));
  return { ...rest, metadata: Object.fromEntries(written) };
}

interface SchemaIssue {
  code?: string | undefined;
  path: readonly PropertyKey[];
  message: string;
  keys?: readonly string[];
}

function issuesOf(issue: SchemaIssue, input: unknown): Issue[] {
  if (issue.code === 'unrecognized_keys' && issue.keys !== undefined) {
    const fields = fieldsAt(input, issue.path);
    const allowed = fields === undefined ? '' : `; there are ${list(fields)}`;
    return issue.keys.map((key) => {
      const path = [...issue.path, key];
      return { path: textOf(path), value: shown(valueAt(input, path)), message: `there is no such field${allowed}` };
    });
  }
  const value = valueAt(input, issue.path);
  // zod's own words begin with a category that says nothing more.
  const message = issue.message.replace(/^Invalid (input|option): /, '');
  return [{ path: textOf(issue.path), ...(value !== undefined && { value: shown(value) }), message }];
}

/** Names of the fields that the schema has at a path; undefined if that cannot be told. */
function fieldsAt(input: unknown, path: readonly PropertyKey[]): string[] | undefined {
  const kind = (input as { kind?: unknown } | null)?.kind;
  let at = manifestSchema.options.find((option) => option.shape.kind.value === kind) as SchemaNode | undefined;
  for (const key of path) {
    at = unwrapped(at);
    at = typeof key === 'number' ? at?.element : at?.shape?.[String(key)];
  }
  const shape = unwrapped(at)?.shape;
  return shape && Object.keys(shape);
}

/** What we use of a zod schema. */
interface SchemaNode {
  shape?: Record<string, SchemaNode>;
  element?: SchemaNode;
  unwrap?: () => SchemaNode;
}

function unwrapped(schema: SchemaNode | undefined): SchemaNode | undefined {
  let at = schema;
  // An array has `unwrap` too, which is its element.
  while (at?.unwrap !== undefined && at.shape === undefined && at.element === undefined) at = at.unwrap();
  return at;
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let at = input;
  for (const key of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, key)) return undefined;
    at = (at as Record<PropertyKey, unknown>)[key];
  }
  return at;
}

function textOf(path: readonly PropertyKey[]): string {
  return path.map(String).join('.');
}

function list(names: Iterable<string>): string {
  return [...names].join(', ');
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
