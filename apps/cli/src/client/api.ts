/** The gateway's HTTP routes for commands and targets, typed. */
import {
  acceptedBodySchema,
  type Execution,
  executionsBodySchema,
  executionSchema,
  targetsBodySchema,
  type TargetState,
} from '@carrierarr/protocol';
import { anything, GatewayHttp, type HttpOptions } from './http.js';
import type { GatewayAccess } from './settings.js';

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

export interface ExecutionsQuery {
  readonly target?: string;
  readonly state?: Execution['state'];
}

/** Every method throws `GatewayFailure`. */
export class Api {
  readonly #http: GatewayHttp;

  constructor(access: GatewayAccess, options: HttpOptions = {}) {
    this.#http = new GatewayHttp(access, options);
  }

  submit(target: string, body: Submit): Promise<Accepted> {
    return this.#http.request('POST', `/targets/${encodeURIComponent(target)}/commands`, acceptedBodySchema, { body });
  }

  execution(id: string): Promise<Execution> {
    return this.#http.request('GET', `/executions/${encodeURIComponent(id)}`, executionSchema);
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
      const page = await this.#http.request('GET', `/executions?${parameters.toString()}`, executionsBodySchema);
      found.push(...page.executions);
      before = page.next;
    } while (before !== undefined && found.length < limit);
    return found.slice(0, limit);
  }

  /** Known targets, those active last; `target`: only that one. */
  async targets(target?: string): Promise<TargetState[]> {
    const query = target === undefined ? '' : `?${new URLSearchParams({ target }).toString()}`;
    const { targets } = await this.#http.request('GET', `/targets${query}`, targetsBodySchema);
    // An older gateway lists all.
    return targets.filter((found) => target === undefined || found.target === target);
  }

  /** Ends one execution, waiting or running. Resolves when the kill is on its way. */
  async kill(execution: string): Promise<void> {
    await this.#http.request('DELETE', `/executions/${encodeURIComponent(execution)}`, anything);
  }

  /** Ends what runs on a target, else cancels what is next there. */
  async killTarget(target: string): Promise<void> {
    await this.#http.request('POST', `/targets/${encodeURIComponent(target)}/commands`, anything, {
      body: { command: 'kill' },
    });
  }
}
