/**
 * The door: what is asked of each request before anything is done for it. HTTP routes and WebSocket upgrades read the
 * same facts (while the request object lives, which is only until its callback returns) and pass the same checks.
 */
import { isLoopbackHost } from '@carrierarr/platform';
import { ClientError } from '@carrierarr/protocol';
import type uWS from 'uWebSockets.js';
import { type GatewayConfig, requiresAuthentication } from '../config.js';
import { type Authenticator, type Credential, type Presented, tokenOfSubprotocols } from './authenticate.js';
import { addressOfBytes, clientAddress, trustedProxies } from './client-address.js';
import { checkHost, checkOrigin, type OriginFacts, type OriginRules } from './origin.js';

/** What is known of a request's sender. */
export interface RequestFacts extends OriginFacts, Presented {
  /** The client's address, as trusted proxies say. */
  address: string;
}

type GuardConfig = Pick<
  GatewayConfig,
  'addr' | 'allowOrigin' | 'trustedProxies' | 'tokensFile' | 'jwtJwksUrl' | 'jwtJwksFile'
>;

export class Guard {
  readonly #rules: OriginRules;
  readonly #authenticator: Authenticator;
  readonly #isTrusted: (address: string) => boolean;

  constructor(config: GuardConfig, authenticator: Authenticator) {
    this.#rules = {
      allowOrigins: config.allowOrigin,
      isLoopbackAnonymous: !requiresAuthentication(config) && isLoopbackHost(config.addr.host),
    };
    this.#authenticator = authenticator;
    this.#isTrusted = trustedProxies(config.trustedProxies);
  }

  /** True if clients must show a token. */
  get needsToken(): boolean {
    return this.#authenticator.isRequired;
  }

  /** Reads all that is needed later. Synchronous: the request is gone after its callback. */
  read(res: uWS.HttpResponse, req: uWS.HttpRequest): RequestFacts {
    // Not getHeader: it returns the first of several lines, which is the client's own where a proxy adds another.
    const peer = addressOfBytes(res.getRemoteAddress());
    const isProxied = this.#isTrusted(peer);
    const forwarded: string[] = [];
    const protocols: string[] = [];
    if (isProxied) {
      req.forEach((name, value) => {
        if (name === 'x-forwarded-for') forwarded.push(value);
        else if (name === 'x-forwarded-proto') protocols.push(value);
      });
    }
    const protocol = isProxied ? protocols.join(',').split(',').at(-1)?.trim().toLowerCase() : undefined;
    const query = req.getQuery();
    return {
      origin: req.getHeader('origin'),
      host: req.getHeader('host'),
      isSecure: protocol ? protocol === 'https' || protocol === 'wss' : undefined,
      address: isProxied ? clientAddress(peer, forwarded.join(','), this.#isTrusted) : peer,
      authorization: req.getHeader('authorization'),
      subprotocolToken: tokenOfSubprotocols(req.getHeader('sec-websocket-protocol')),
      accessToken: query ? (new URLSearchParams(query).get('access_token') ?? undefined) : undefined,
    };
  }

  /** Throws ClientError `host_refused` or `origin_refused`. */
  checkPage(facts: OriginFacts): void {
    const refusal = checkHost(this.#rules, facts.host) ?? checkOrigin(this.#rules, facts);
    if (refusal) throw refusal;
  }

  /** Who it is, where that can be said at once: without authentication, or by a token of the file. */
  identifyNow(presented: Presented): Credential | undefined {
    return this.#authenticator.authenticateNow(presented);
  }

  /** Who it is. Throws ClientError `unauthenticated`, or `unavailable` when that cannot be told now. */
  async identify(presented: Presented): Promise<Credential> {
    const authentication = await this.#authenticator.authenticate(presented);
    if (authentication.kind === 'subject') return authentication;
    if (authentication.kind === 'invalid') {
      throw new ClientError(authentication.retryable ? 'unavailable' : 'unauthenticated', authentication.message);
    }
    throw new ClientError(
      'unauthenticated',
      'This gateway needs a token, and none came: send the header `Authorization: Bearer TOKEN` (or `?access_token=TOKEN`).',
    );
  }

  /** Whether somebody who was let in may stay. */
  stillValid(credential: Credential): boolean {
    return this.#authenticator.stillValid(credential);
  }
}
