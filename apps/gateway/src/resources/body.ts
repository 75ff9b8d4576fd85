/**
 * Bodies of requests about resources: JSON or YAML, as data that is safe to walk through.
 *
 * YAML is what people write, and a format that can grow: an alias stands for what it names, so a kilobyte can mean a
 * terabyte. Here aliases, depth and size are bounded, tags are refused, and a body is one document.
 */
import { ClientError } from '@carrierarr/protocol';
import { parseDocument } from 'yaml';
import type { Exchange } from '../http/exchange.js';
import { shown } from '../problem.js';
import type { Json } from './merge-patch.js';

/** What all aliases of a body together may stand for, in nodes. */
const ALIASES_MAX = 100;
/** Deepest nesting, and most values, of a body; far above what a resource has. */
const DEPTH_MAX = 32;
const VALUES_MAX = 200_000;

const JSON_TYPE = /^application\/json *(;|$)/i;
const PATCH_TYPE = /^application\/(merge-patch\+)?json *(;|$)/i;
const YAML_TYPE = /^(application|text)\/(x-)?yaml *(;|$)/i;

/** A manifest, or several, as JSON or YAML. Throws ClientError `bad_message` and `message_too_large`. */
export async function manifestBodyOf(exchange: Exchange): Promise<Json> {
  const { contentType } = exchange;
  if (YAML_TYPE.test(contentType)) return parseYaml((await exchange.body()).toString('utf8'));
  if (JSON_TYPE.test(contentType)) return parseJson((await exchange.body()).toString('utf8'));
  throw wrongType('application/json or application/yaml', contentType);
}

/** A JSON merge patch. Throws as {@link manifestBodyOf} does. */
export async function patchBodyOf(exchange: Exchange): Promise<Json> {
  const { contentType } = exchange;
  if (!PATCH_TYPE.test(contentType)) throw wrongType('application/merge-patch+json', contentType);
  return parseJson((await exchange.body()).toString('utf8'));
}

/** A form on any website can post a body, but only as other types unless the gateway agrees first. */
function wrongType(wanted: string, contentType: string): ClientError {
  const seen = contentType === '' ? 'none' : shown(contentType);
  return new ClientError('bad_message', `Expected the header Content-Type: ${wanted}, got ${seen}.`);
}

/** Throws ClientError `bad_message`. */
export function parseJson(text: string): Json {
  let value: Json;
  try {
    value = JSON.parse(text) as Json;
  } catch (cause) {
    const seen = text === '' ? 'nothing' : shown(text);
    throw new ClientError('bad_message', `Expected a resource as JSON, got ${seen}: ${reasonOf(cause)}.`, { cause });
  }
  checkSize(value);
  return value;
}

/** One YAML document of the core schema. Throws ClientError `bad_message`. */
export function parseYaml(text: string): Json {
  let value: Json;
  try {
    // With `silent` it would not mind further documents.
    const document = parseDocument(text, { schema: 'core', customTags: [], logLevel: 'error', prettyErrors: true });
    // A warning is about a tag that means nothing here: whoever wrote it meant something.
    const problem = document.errors[0] ?? document.warnings[0];
    if (problem !== undefined) throw problem;
    value = document.toJS({ maxAliasCount: ALIASES_MAX }) as Json;
  } catch (cause) {
    throw new ClientError('bad_message', `Cannot use the YAML: ${reasonOf(cause)}`, { cause });
  }
  checkSize(value);
  return value;
}

/** The first line of what a parser says; the others draw the place. */
function reasonOf(error: unknown): string {
  if (error instanceof RangeError) return 'it is nested too deeply';
  const text = error instanceof Error ? error.message : String(error);
  return (text.split('\n')[0] ?? '').replace(/:$/, '').slice(0, 300);
}

/** Without recursion, for that is what deep nesting would break. */
function checkSize(root: Json): void {
  const waiting: { value: Json; depth: number }[] = [{ value: root, depth: 0 }];
  let values = 0;
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const { value, depth } = next;
    values += 1;
    if (depth > DEPTH_MAX) {
      throw new ClientError('bad_message', `The body is nested more than ${DEPTH_MAX} levels deep.`);
    }
    if (values > VALUES_MAX) {
      throw new ClientError('bad_message', `The body has more than ${VALUES_MAX} values. Send it in parts.`);
    }
    if (typeof value !== 'object' || value === null) continue;
    for (const part of Object.values(value)) waiting.push({ value: part, depth: depth + 1 });
  }
}
