/**
 * JSON Web Tokens (RFC 7519) checked against published keys (JWKS). The issuer and the audience must be ours: a token
 * that the same issuer made for another program is valid in every other way. Only signatures with a public key count;
 * `none` and HMAC, where whoever can check can also sign, do not.
 */
import { type Clock, type Logger, redactUrl, WatchedFile } from '@carrierarr/platform';
import { SYSTEM_SUBJECT_PREFIX } from '@carrierarr/protocol';
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  errors,
  type JSONWebKeySet,
  type JWTVerifyGetKey,
  jwtVerify,
} from 'jose';

export const JWT_ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
];
const CLOCK_TOLERANCE_S = 5;
const FETCH_TIMEOUT_MS = 3_000;
/** After this the keys are fetched again, so a key that was taken back stops working. */
const KEYS_AGE_MAX_MS = 10 * 60_000;
const SUBJECT = /^[^\p{C}]{1,256}$/u;

export type JwtAnswer =
  | { kind: 'valid'; subject: string; expiresAtMs: number }
  /** `retryable`: the keys could not be fetched, so nothing is known of the token. */
  | { kind: 'invalid'; message: string; retryable: boolean };

export interface JwtOptions {
  keys: { url: string } | { file: string };
  issuer: string;
  audience: string;
  subjectClaim: string;
  clock: Clock;
  logger: Pick<Logger, 'info' | 'warn' | 'error'>;
}

export class Jwt {
  readonly #o: JwtOptions;
  readonly #file: WatchedFile | undefined;
  #keys: JWTVerifyGetKey;

  constructor(options: JwtOptions) {
    this.#o = options;
    const { keys, clock, logger } = options;
    if ('url' in keys) {
      this.#keys = createRemoteJWKSet(new URL(keys.url), {
        timeoutDuration: FETCH_TIMEOUT_MS,
        cacheMaxAge: KEYS_AGE_MAX_MS,
      });
      return;
    }
    this.#keys = () => {
      throw new Error('The JWKS file has not been read: call start() first.');
    };
    const load = (text: string) => {
      this.#keys = createLocalJWKSet(parseKeys(text));
    };
    this.#file = new WatchedFile({ path: keys.file, what: 'JWKS file', load, clock, logger });
  }

  /** Reads the file with the keys, if it is a file. Keys of a URL are fetched when the first token comes. */
  async start(): Promise<void> {
    await this.#file?.start();
  }

  stop(): void {
    this.#file?.stop();
  }

  /** Reads the file with the keys now, instead of within seconds. */
  async refresh(): Promise<void> {
    await this.#file?.refresh();
  }

  /** Whose token it is. Never rejects. */
  async verify(token: string): Promise<JwtAnswer> {
    const { issuer, audience, subjectClaim, clock } = this.#o;
    try {
      const { payload } = await jwtVerify(token, this.#keys, {
        issuer,
        audience,
        algorithms: JWT_ALGORITHMS,
        requiredClaims: ['exp'],
        clockTolerance: CLOCK_TOLERANCE_S,
        currentDate: new Date(clock.now()),
      });
      const subject = Object.hasOwn(payload, subjectClaim) ? payload[subjectClaim] : undefined;
      if (typeof subject !== 'string' || !SUBJECT.test(subject)) {
        return refusal(
          `its claim ${JSON.stringify(subjectClaim)}, which should name the subject, is missing or no name.`,
        );
      }
      if (subject.startsWith(SYSTEM_SUBJECT_PREFIX))
        return refusal(
          `its claim ${JSON.stringify(subjectClaim)} begins with ${SYSTEM_SUBJECT_PREFIX}, which is for monitors.`,
        );
      return { kind: 'valid', subject, expiresAtMs: ((payload.exp ?? 0) + CLOCK_TOLERANCE_S) * 1000 };
    } catch (error) {
      return this.#explain(error);
    }
  }

  #explain(error: unknown): JwtAnswer {
    const { issuer, audience } = this.#o;
    if (error instanceof errors.JWTExpired)
      return refusal(`it expired at ${timeOf(error.payload.exp)}. Get a new one.`);
    if (error instanceof errors.JWTClaimValidationFailed) {
      const claim = error.claim;
      const got = JSON.stringify(error.payload[claim]) ?? 'none';
      if (claim === 'iss') return refusal(`its issuer (iss) should be ${JSON.stringify(issuer)}, and is ${got}.`);
      if (claim === 'aud') return refusal(`its audience (aud) should be ${JSON.stringify(audience)}, and is ${got}.`);
      if (claim === 'nbf') return refusal(`it is not valid before ${timeOf(error.payload.nbf)} (nbf).`);
      return refusal(`its claim ${claim} is ${error.reason === 'missing' ? 'missing' : 'not as it should be'}.`);
    }
    if (error instanceof errors.JOSEAlgNotAllowed || error instanceof errors.JOSENotSupported) {
      return refusal(`its algorithm is not allowed. Use one of ${JWT_ALGORITHMS.join(', ')}.`);
    }
    if (error instanceof errors.JWKSNoMatchingKey)
      return refusal('it is signed by a key that its issuer does not publish.');
    if (error instanceof errors.JWKSMultipleMatchingKeys) {
      return refusal('several published keys could have signed it: its header must name one (kid).');
    }
    if (error instanceof errors.JWSSignatureVerificationFailed) return refusal('its signature does not fit.');
    if (error instanceof errors.JWSInvalid || error instanceof errors.JWTInvalid) return refusal('it is damaged.');
    // Everything else happened while the keys were fetched.
    const where = 'url' in this.#o.keys ? redactUrl(this.#o.keys.url) : this.#o.keys.file;
    this.#o.logger.error({ err: error, keys: where }, 'the keys for JSON Web Tokens could not be fetched');
    return {
      kind: 'invalid',
      message:
        'The token could not be checked, because the keys of its issuer cannot be fetched now. Try again in a moment.',
      retryable: true,
    };
  }
}

function refusal(why: string): JwtAnswer {
  return { kind: 'invalid', message: `The JSON Web Token is refused: ${why}`, retryable: false };
}

function timeOf(seconds: unknown): string {
  const at = new Date(Number(seconds) * 1000);
  return Number.isNaN(at.getTime()) ? 'a time nobody can read' : at.toISOString();
}

function parseKeys(text: string): JSONWebKeySet {
  const value: unknown = JSON.parse(text);
  const keys = typeof value === 'object' && value !== null && 'keys' in value ? value.keys : undefined;
  if (!Array.isArray(keys) || keys.length === 0) throw new Error('expected {"keys":[...]} with at least one key.');
  return value as JSONWebKeySet;
}
