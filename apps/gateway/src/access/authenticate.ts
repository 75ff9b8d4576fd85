/** Who a client is, from the token it shows, and later: whether that still holds. */
import { ANONYMOUS, type TokenProof, type Tokens } from '@carrierarr/platform';
import { TOKEN_SUBPROTOCOL_PREFIX } from '@carrierarr/protocol';
import type { Jwt } from './jwt.js';

/** Where a token can be. The first that is there counts. */
export interface Presented {
  /** The `Authorization` header; empty if there is none. */
  authorization?: string;
  /** Offered as a WebSocket subprotocol; see {@link tokenOfSubprotocols}. */
  subprotocolToken?: string | undefined;
  /** The query's `access_token`, or that of an `authenticate` message. */
  accessToken?: string | undefined;
}

export interface Credential {
  kind: 'subject';
  subject: string;
  /** Epoch ms; undefined if it does not expire by itself. */
  expiresAtMs?: number;
  /** Undefined for anonymous subjects and JSON Web Tokens. */
  proof?: TokenProof;
}

export type Authentication =
  | Credential
  /** No token was shown, and one is needed. */
  | { kind: 'none' }
  /** `retryable`: the token may be good, but could not be checked now. */
  | { kind: 'invalid'; message: string; retryable?: boolean };

export interface AuthenticatorOptions {
  tokens?: Tokens;
  jwt?: Jwt;
  now: () => number;
}

const TOKEN_BYTES_MAX = 16 * 1024;

export class Authenticator {
  readonly #o: AuthenticatorOptions;

  constructor(options: AuthenticatorOptions) {
    this.#o = options;
  }

  /** True if clients must show a token; else everybody is the subject `anonymous`. */
  get isRequired(): boolean {
    return this.#o.tokens !== undefined || this.#o.jwt !== undefined;
  }

  /** Reads the files with tokens and keys. Throws an Error when one cannot be used. */
  async start(): Promise<void> {
    await this.#o.tokens?.start();
    await this.#o.jwt?.start();
  }

  stop(): void {
    this.#o.tokens?.stop();
    this.#o.jwt?.stop();
  }

  /** The same as {@link authenticate}, for subjects that need no waiting; undefined for all others. */
  authenticateNow({ authorization = '', subprotocolToken, accessToken }: Presented): Credential | undefined {
    if (!this.isRequired) return { kind: 'subject', subject: ANONYMOUS };
    const token = authorization === '' ? (subprotocolToken ?? accessToken) : bearerOf(authorization);
    if (token === undefined || token === '' || token.length > TOKEN_BYTES_MAX) return undefined;
    const found = this.#o.tokens?.find(token);
    return found && { kind: 'subject', subject: found.subject, proof: found.proof };
  }

  /** Never rejects. */
  async authenticate(presented: Presented): Promise<Authentication> {
    const known = this.authenticateNow(presented);
    if (known) return known;
    const header = presented.authorization ?? '';
    const bearer = bearerOf(header);
    if (header !== '' && bearer === undefined) {
      return {
        kind: 'invalid',
        message: 'Expected the header `Authorization: Bearer TOKEN`, got another scheme or no token.',
      };
    }
    const token = bearer ?? presented.subprotocolToken ?? presented.accessToken;
    if (token === undefined || token === '') return { kind: 'none' };
    if (token.length > TOKEN_BYTES_MAX) {
      return {
        kind: 'invalid',
        message: `The token has ${token.length} characters; at most ${TOKEN_BYTES_MAX} are accepted.`,
      };
    }
    const { tokens, jwt } = this.#o;
    if (jwt && (!tokens || token.split('.').length === 3)) {
      const answer = await jwt.verify(token);
      if (answer.kind === 'invalid') return answer;
      return { kind: 'subject', subject: answer.subject, expiresAtMs: answer.expiresAtMs };
    }
    return { kind: 'invalid', message: 'The token is not known here. It may have been replaced: ask for a new one.' };
  }

  /** Whether a credential that was valid still is: its token not taken back, not expired. */
  stillValid({ subject, expiresAtMs, proof }: Credential): boolean {
    if (expiresAtMs !== undefined && expiresAtMs <= this.#o.now()) return false;
    return proof === undefined || (this.#o.tokens?.holds(proof, subject) ?? false);
  }
}

function bearerOf(header: string): string | undefined {
  return /^bearer +(\S+) *$/i.exec(header)?.[1];
}

/** The token that a browser offers among the subprotocols (`Sec-WebSocket-Protocol`), as it cannot set other headers. */
export function tokenOfSubprotocols(header: string): string | undefined {
  for (const offer of header.split(',')) {
    const name = offer.trim();
    if (name.startsWith(TOKEN_SUBPROTOCOL_PREFIX)) {
      return Buffer.from(name.slice(TOKEN_SUBPROTOCOL_PREFIX.length), 'base64url').toString('utf8');
    }
  }
  return undefined;
}
