/** What a route is, and how most of them answer. */
import type { Credential } from '../access/authenticate.js';
import type { Answer, Exchange } from './exchange.js';
import type { Pattern } from './router.js';

/** A request that has passed the checks. */
export interface Call {
  exchange: Exchange;
  params: ReadonlyMap<string, string>;
  credential: Credential;
}

export interface Route extends Pattern {
  /** Everybody may call it, also where a token is needed. */
  isOpen?: boolean;
  /** Undefined: it has answered by itself. */
  answer: (call: Call) => Answer | Promise<Answer | undefined>;
}

export function json(status: number, value: unknown): Answer {
  return jsonText(status, JSON.stringify(value));
}

/** JSON that is text already. */
export function jsonText(status: number, body: string): Answer {
  return { status, headers: { 'Content-Type': 'application/json' }, body };
}
