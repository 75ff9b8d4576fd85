/**
 * The gateway's HTTP routes, typed. A request that failed on its way is repeated a few times, so that a restart of a
 * gateway is not noticed; that is safe, because reads change nothing and a submit carries an id.
 */
import { backoffMs, type Clock, sleep, systemClock } from '@carrierarr/platform';
import {
  acceptedBodySchema,
  type Execution,
  executionsBodySchema,
  executionSchema,
  targetsBodySchema,
  type TargetState,
} from '@carrierarr/protocol';
import type { GatewayAccess } from './settings.js';
import { GatewayFailure, refused, unreachable } from './unreachable.js';

const REPEATS_MAX = 5;
const REQUEST_TIMEOUT_MS = 30_000;
const PAGE = 500;

/** What `submit` takes. `id` is required: it makes a repeat safe. */
export interface Submit {
  readonly command: string;
  readonly args: readonly string[];
  readonly id: string;
  readonly timeout_seconds?: number;
  readonly idempotent?: boolean;
}
export type Accepted = ReturnType<typeof acceptedBodySchema.parse>;

/** How to read an answer's body. */
interface Reader<T> {
  parse(value: unknown): T;
}
/** For an answer of which only the status matters. */
const anything: Reader<unknown> = { parse: (value) => value };

export interface ExecutionsQuery {
  readonly target?: string;
  readonly state?: Execution['state'];
}

/** Every method throws `GatewayFailure`. */
export class Api {
  readonly #access: GatewayAccess;
  readonly #clock: Clock;
  readonly #random: () => number;

  constructor(access: GatewayAccess, { clock = systemClock, random = Math.random } = {}) {
    this.#access = access;
    this.#clock = clock;
    this.#random = random;
  }

  submit(target: string, body: Submit): Promise<Accepted> {
    return this.#request('POST', `/targets/${encodeURIComponent(target)}/commands`, acceptedBodySchema, body);
  }

  execution(id: string): Promise<Execution> {
    return this.#request('GET', `/executions/${encodeURIComponent(id)}`, executionSchema);
  }

  /** The newest `limit`, in as many requests as that takes. */
  async executions(query: ExecutionsQuery, limit: number): Promise<Execution[]> {
    const found: Execution[] = [];
    let before: string | undefined;
    do {
      const parameters = new URLSearchParams({
        ...query,
        limit: String(Math.min(PAGE, limit - found.length)),
        ...(before !== undefined && { before }),
      });
      const page = await this.#request('GET', `/executions?${parameters.toString()}`, executionsBodySchema);
      found.push(...page.executions);
      before = page.next;
    } while (before !== undefined && found.length < limit);
    return found.slice(0, limit);
  }

  async targets(): Promise<TargetState[]> {
    return (await this.#request('GET', '/targets', targetsBodySchema)).targets;
  }

  /** Ends one execution, waiting or running. Resolves when the kill is on its way. */
  async kill(execution: string): Promise<void> {
    await this.#request('DELETE', `/executions/${encodeURIComponent(execution)}`, anything);
  }

  /** Ends what runs on a target, else cancels what is next there. */
  async killTarget(target: string): Promise<void> {
    await this.#request('POST', `/targets/${encodeURIComponent(target)}/commands`, anything, { command: 'kill' });
  }

  async #request<T>(method: string, path: string, schema: Reader<T>, body?: unknown): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#once(method, path, schema, body);
      } catch (error) {
        if (!(error instanceof GatewayFailure) || !isPassing(error) || attempt >= REPEATS_MAX) throw error;
        await sleep(this.#clock, backoffMs({ attempt, baseMs: 250, capMs: 4000, random: this.#random }));
      }
    }
  }

  async #once<T>(method: string, path: string, schema: Reader<T>, body?: unknown): Promise<T> {
    const { url, token } = this.#access;
    let status: number;
    let text: string;
    try {
      const response = await fetch(`${url}/api/v1${path}`, {
        method,
        headers: {
          accept: 'application/json',
          ...(token !== null && { authorization: `Bearer ${token}` }),
          ...(body !== undefined && { 'content-type': 'application/json' }),
        },
        // A redirect would send the token to whom nobody named.
        redirect: 'manual',
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
        ...(body !== undefined && { body: JSON.stringify(body) }),
      });
      status = response.status;
      text = await response.text();
    } catch (error) {
      throw unreachable(this.#access, error);
    }
    if (status < 200 || status > 299) throw refused(this.#access, status, text);
    try {
      return schema.parse(text === '' ? null : JSON.parse(text));
    } catch (cause) {
      throw new GatewayFailure(
        `${url} answered ${method} ${path.split('?')[0]} with something this version does not understand. ` +
          'Check --url, and that gateway and command line are of about the same version (`carrierarr version`).',
        'unreachable',
        false,
        { cause },
      );
    }
  }
}

/** True for what a moment's wait cures: a broken connection, a proxy without a gateway, one that shuts down. */
function isPassing({ code, retryable }: GatewayFailure): boolean {
  return retryable && (code === 'unreachable' || code === 'draining');
}
