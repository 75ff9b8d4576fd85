/** One request to the gateway, as a client makes it through whatever proxies there are. */
import type { GatewayAccess } from '../../client/settings.js';
import { unreachable } from '../../client/unreachable.js';
import { Unseen } from '../check.js';

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** Undefined if it is no JSON. */
  readonly json: unknown;
}

/** Rejects with a `GatewayFailure` that says why nothing answered. A redirect is an answer: it would take the token along. */
export async function request({ url, token }: GatewayAccess, path: string, withToken = true): Promise<Answer> {
  try {
    const response = await fetch(`${url}${path}`, {
      headers: { accept: 'application/json', ...(withToken && token !== null && { authorization: `Bearer ${token}` }) },
      redirect: 'manual',
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, text, json: jsonOf(text) };
  } catch (error) {
    throw unreachable({ url, token }, error);
  }
}

/** For checks that do not tell by themselves why a gateway cannot be reached. */
export async function requestIfReached(access: GatewayAccess, path: string, withToken = true): Promise<Answer> {
  try {
    return await request(access, path, withToken);
  } catch {
    throw new Unseen('the gateway cannot be reached');
  }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // A proxy's page.
  }
}

/** A field of an answer's object. */
export function field(json: unknown, name: string): unknown {
  return typeof json === 'object' && json !== null ? (json as Record<string, unknown>)[name] : undefined;
}
