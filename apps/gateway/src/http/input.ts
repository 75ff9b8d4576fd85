/** Queries and bodies as data that fits its schema, or an error that says what was received. */
import { ClientError } from '@carrierarr/protocol';
import { shown } from '../problem.js';
import type { Exchange } from './exchange.js';

/** What we use of a zod schema. */
interface Schema<T> {
  safeParse(
    value: unknown,
  ):
    | { success: true; data: T }
    | { success: false; error: { issues: readonly { path: PropertyKey[]; message: string }[] } };
}

/** Throws ClientError `bad_message` with the first thing that is wrong. */
export function fit<T>(schema: Schema<T>, value: unknown, what: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const path = issue?.path ?? [];
  let received: unknown = value;
  for (const key of path) {
    const isThere = typeof received === 'object' && received !== null && Object.hasOwn(received, key);
    received = isThere ? (received as Record<PropertyKey, unknown>)[key] : undefined;
  }
  const place = path.length === 0 ? what : `\`${path.map(String).join('.')}\` in ${what}`;
  throw new ClientError(
    'bad_message',
    `Cannot use ${place}: ${issue?.message ?? 'it does not fit'}; got ${received === undefined ? 'nothing' : shown(received)}.`,
  );
}

/** The query as an object, without the access token. A name that comes twice is refused: which one counts? */
export function queryOf(query: string): Record<string, string> {
  const found = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(query)) {
    if (name === 'access_token') continue;
    if (found.has(name))
      throw new ClientError('bad_message', `The query has ${shown(name)} more than once. Keep one of them.`);
    found.set(name, value);
  }
  return Object.fromEntries(found);
}

/**
 * The body as JSON. The content type must say so: a form on any website can post a body, but only as other types unless
 * the gateway agrees first.
 */
export async function jsonBodyOf(exchange: Exchange): Promise<unknown> {
  if (!/^application\/json *(;|$)/i.test(exchange.contentType)) {
    const seen = exchange.contentType === '' ? 'none' : shown(exchange.contentType);
    throw new ClientError('bad_message', `Expected the header Content-Type: application/json, got ${seen}.`);
  }
  return jsonOf(exchange, '{"command":"start"}');
}

/** The body as JSON, whatever its content type says. For routes whose old clients say none. */
export async function jsonOf(exchange: Exchange, example: string): Promise<unknown> {
  const text = (await exchange.body()).toString('utf8');
  try {
    return JSON.parse(text);
  } catch (cause) {
    const seen = text === '' ? 'nothing' : shown(text);
    throw new ClientError('bad_message', `Expected a JSON body such as ${example}, got ${seen}.`, { cause });
  }
}
