/** The gateway's HTTP routes for nodes, typed. */
import { type NodeBody, nodesBodySchema, type NodeDetailBody, nodeDetailBodySchema } from '@carrierarr/protocol';
import { GatewayHttp, type HttpOptions } from './http.js';
import type { GatewayAccess } from './settings.js';
import { GatewayFailure } from './unreachable.js';

/** Every method throws `GatewayFailure`. */
export class FleetApi {
  readonly #http: GatewayHttp;

  constructor(access: GatewayAccess, options: HttpOptions = {}) {
    this.#http = new GatewayHttp(access, options);
  }

  nodes(): Promise<NodeBody[]> {
    return this.#http.request('GET', '/nodes', nodesBodySchema);
  }

  /** By any of its names; undefined if there is none. */
  async node(name: string): Promise<NodeDetailBody | undefined> {
    try {
      return await this.#http.request('GET', `/nodes/${encodeURIComponent(name)}`, nodeDetailBodySchema);
    } catch (error) {
      if (error instanceof GatewayFailure && error.code === 'not_found') return undefined;
      throw error;
    }
  }
}
