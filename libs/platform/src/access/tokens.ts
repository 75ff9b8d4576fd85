/**
 * Tokens from a file: one `subject token` pair per line, `#` begins a comment line. In place of a token there may be
 * `sha256:` and the token's hash in hex, so that the file does not let its readers in. A subject may have several
 * tokens, which is how one is replaced by the next without a moment without any.
 *
 * Tokens are looked up by a keyed hash. That takes the same time whatever is presented, however near to a token it is:
 * nobody can steer a hash towards an entry byte by byte without knowing the key.
 */
import { hash, randomBytes } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { SYSTEM_SUBJECT_PREFIX } from '@carrierarr/protocol';
import type { Clock } from '../clock.js';
import type { Logger } from '../logger.js';
import { WatchedFile } from './watched-file.js';

/** Shortest token, in characters: what `openssl rand -hex 16` gives has twice as many. */
export const TOKEN_LENGTH_MIN = 16;
export const TOKEN_LENGTH_MAX = 4096;
/** Subject of everybody, where no authentication is configured. */
export const ANONYMOUS = 'anonymous';

const SUBJECT = /^[^\p{C}\s]{1,128}$/u;
const TOKEN = /^[\x21-\x7e]+$/;
const HASHED = /^sha256:([0-9a-f]{64})$/i;

export interface TokenEntry {
  subject: string;
  /** SHA-256 of the token. */
  hash: Buffer;
}

/** Why a client's subject cannot be this; undefined if it can. */
function whyUnfit(subject: string): string | undefined {
  if (subject === ANONYMOUS) return 'stands for clients without a token';
  if (subject.startsWith(SYSTEM_SUBJECT_PREFIX)) return `begins with ${SYSTEM_SUBJECT_PREFIX}, which is for monitors`;
  return SUBJECT.test(subject) ? undefined : 'is longer than 128 characters or not printable';
}

/** Reads a tokens file. Throws an Error that names the line, never the token, when one cannot be understood. */
export function parseTokens(text: string): TokenEntry[] {
  const entries: TokenEntry[] = [];
  const lineOfHash = new Map<string, { line: number; subject: string }>();
  for (const [index, raw] of text.split(/\r?\n/).entries()) {
    const trimmed = raw.replace(/^\uFEFF/, '').trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const line = index + 1;
    const [subject = '', token = '', ...rest] = trimmed.split(/\s+/);
    if (token === '' || rest.length > 0) {
      const got = token === '' ? 'one word' : `${rest.length + 2} words`;
      throw new Error(`line ${line}: expected a subject and a token separated by a space, got ${got}.`);
    }
    const unfit = whyUnfit(subject);
    if (unfit !== undefined) throw new Error(`line ${line}: the subject ${unfit}. Choose another name.`);
    const tokenHash = hashOf(token, line);
    const known = lineOfHash.get(tokenHash.toString('hex'));
    if (known && known.subject !== subject) {
      throw new Error(
        `line ${line}: the token is that of line ${known.line} too, for another subject. Give each its own.`,
      );
    }
    lineOfHash.set(tokenHash.toString('hex'), { line, subject });
    entries.push({ subject, hash: tokenHash });
  }
  return entries;
}

function hashOf(token: string, line: number): Buffer {
  const hashed = HASHED.exec(token)?.[1];
  if (hashed) return Buffer.from(hashed, 'hex');
  if (token.toLowerCase().startsWith('sha256:')) {
    throw new Error(
      `line ${line}: expected 64 hex digits after sha256:, got ${token.length - 'sha256:'.length} characters.`,
    );
  }
  if (token.length < TOKEN_LENGTH_MIN || token.length > TOKEN_LENGTH_MAX || !TOKEN.test(token)) {
    throw new Error(
      `line ${line}: expected a token of ${TOKEN_LENGTH_MIN} to ${TOKEN_LENGTH_MAX} printable ASCII characters, got ` +
        `${token.length}${TOKEN.test(token) ? '' : ', some of them others'}. \`openssl rand -hex 32\` makes a good one.`,
    );
  }
  return sha256(token);
}

function sha256(text: string): Buffer {
  // In one call: hash objects are dear to collect, and every connection comes by here.
  return hash('sha256', text, 'buffer');
}

/** Proof that a token was valid, to ask later whether it still is. It is no secret to keep: only this process knows its key. */
export type TokenProof = string & { readonly token: unique symbol };

const KEY_BYTES = 32;

export interface TokensOptions {
  path: string;
  clock: Clock;
  logger: Pick<Logger, 'info' | 'warn' | 'error'>;
}

export class Tokens {
  readonly #file: WatchedFile;
  readonly #path: string;
  readonly #logger: TokensOptions['logger'];
  readonly #keyed = Buffer.concat([randomBytes(KEY_BYTES), Buffer.alloc(32)]);
  #subjects = new Map<string, string>();

  constructor({ path, clock, logger }: TokensOptions) {
    this.#path = path;
    this.#logger = logger;
    this.#file = new WatchedFile({ path, what: 'tokens file', clock, logger, load: (...args) => this.#load(...args) });
  }

  /** Reads the file. Throws an Error when it is missing, broken or without any token. */
  async start(): Promise<void> {
    await this.#file.start();
    const { mode } = await stat(this.#path);
    if ((mode & 0o026) !== 0) {
      this.#logger.warn(
        { path: this.#path, mode: (mode & 0o777).toString(8) },
        'other users of this machine may read or change the tokens file: chmod 600 it, or keep only sha256: hashes in it',
      );
    }
  }

  stop(): void {
    this.#file.stop();
  }

  /** Reads the file now, instead of within seconds. */
  async refresh(): Promise<void> {
    await this.#file.refresh();
  }

  /** Whose token it is, with a proof for {@link holds}; undefined if it is nobody's. */
  find(token: string): { subject: string; proof: TokenProof } | undefined {
    const proof = this.#blind(sha256(token));
    const subject = this.#subjects.get(proof);
    return subject === undefined ? undefined : { subject, proof };
  }

  /** True while the token behind the proof is this subject's. */
  holds(proof: TokenProof, subject: string): boolean {
    return this.#subjects.get(proof) === subject;
  }

  #load(text: string, isFirst: boolean): void {
    const entries = parseTokens(text);
    if (entries.length === 0) {
      if (isFirst) throw new Error('it has no tokens. Add a line with a subject and a token, separated by a space.');
      // Taking out the last one must lock its holder out, so an emptied file counts.
      this.#logger.warn({ path: this.#path }, 'the tokens file has no tokens any more: nobody is let in');
    }
    this.#subjects = new Map(entries.map((entry) => [this.#blind(entry.hash), entry.subject]));
  }

  /** SHA-256 of key and hash. Both have one length, so this needs no HMAC. */
  #blind(tokenHash: Buffer): TokenProof {
    this.#keyed.set(tokenHash, KEY_BYTES);
    return hash('sha256', this.#keyed, 'base64') as TokenProof;
  }
}
