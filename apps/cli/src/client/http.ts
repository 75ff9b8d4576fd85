/**
 * Requests to the gateway's HTTP routes. One that failed on its way is repeated a few times, so that a restart of a
 * gateway is not noticed; that is safe, because reads change nothing, a submit carries an id, and writing the same
 * resource twice is writing it once.
 */
import { backoffMs, type Clock, sleep, systemClock } from '@carrierarr/platform/light';
import type { GatewayAccess } from './settings.js';
import { GatewayFailure, refused, unreachable } from './unreachable.js';

const REPEATS_MAX = 5;
const REQUEST_TIMEOUT_MS = 30_000;
/** A stream that says nothing for so long is dead: a watch has bookmarks in between. */
const SILENCE_MS_MAX = 90_000;
/** Longest line of a stream, in UTF-16 code units: one resource. */
const LINE_LENGTH_MAX = 4 * 1024 * 1024;

/** How to read an answer's body. */
export interface Reader<T> {
  parse(value: unknown): T;
}
/** For an answer of which only the status matters. */
export const anything: Reader<unknown> = { parse: (value) => value };

export interface HttpOptions {
  readonly clock?: Clock;
  /** In [0, 1). */
  readonly random?: () => number;
}

interface Content {
  readonly body: unknown;
  /** Default: `application/json`. */
  readonly type?: string;
}

/** Every method throws `GatewayFailure`. Paths begin after `/api/v1`. */
export class GatewayHttp {
  readonly #access: GatewayAccess;
  readonly #clock: Clock;
  readonly #random: () => number;

  constructor(access: GatewayAccess, { clock = systemClock, random = Math.random }: HttpOptions = {}) {
    this.#access = access;
    this.#clock = clock;
    this.#random = random;
  }

  async request<T>(method: string, path: string, schema: Reader<T>, content?: Content): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#once(method, path, schema, content);
      } catch (error) {
        if (!(error instanceof GatewayFailure) || !isPassing(error) || attempt >= REPEATS_MAX) throw error;
        await sleep(this.#clock, backoffMs({ attempt, baseMs: 250, capMs: 4000, random: this.#random }));
      }
    }
  }

  /**
   * Lines of an answer that goes on, each as its JSON value. Ends when the answer does, or when `signal` says so; is not
   * repeated. Whoever stops to read closes it.
   */
  async *lines<T>(path: string, schema: Reader<T>, signal: AbortSignal): AsyncGenerator<T, void, undefined> {
    const silence = new AbortController();
    let timer = this.#clock.setTimeout(() => silence.abort(), REQUEST_TIMEOUT_MS);
    try {
      const response = await fetch(`${this.#access.url}/api/v1${path}`, {
        headers: this.#headers(),
        redirect: 'manual',
        signal: AbortSignal.any([signal, silence.signal]),
      });
      if (response.status !== 200) throw refused(this.#access, response.status, await response.text());
      const decoder = new TextDecoder();
      let rest = '';
      for await (const chunk of response.body ?? []) {
        timer.cancel();
        timer = this.#clock.setTimeout(() => silence.abort(), SILENCE_MS_MAX);
        const lines = (rest + decoder.decode(chunk as Uint8Array, { stream: true })).split('\n');
        rest = lines.pop() ?? '';
        if (rest.length > LINE_LENGTH_MAX) throw this.#notUnderstood('GET', path);
        for (const line of lines) if (line.trim() !== '') yield this.#read('GET', path, schema, line);
      }
    } catch (error) {
      if (signal.aborted) return;
      throw error instanceof GatewayFailure ? error : unreachable(this.#access, error);
    } finally {
      timer.cancel();
    }
  }

  async #once<T>(method: string, path: string, schema: Reader<T>, content?: Content): Promise<T> {
    let status: number;
    let text: string;
    try {
      const response = await fetch(`${this.#access.url}/api/v1${path}`, {
        method,
        headers: {
          ...this.#headers(),
          ...(content !== undefined && { 'content-type': content.type ?? 'application/json' }),
        },
        // A redirect would send the token to whom nobody named.
        redirect: 'manual',
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
        ...(content !== undefined && { body: JSON.stringify(content.body) }),
      });
      status = response.status;
      text = await response.text();
    } catch (error) {
      throw unreachable(this.#access, error);
    }
    if (status < 200 || status > 299) throw refused(this.#access, status, text);
    return this.#read(method, path, schema, text);
  }

  #headers(): Record<string, string> {
    const { token } = this.#access;
    return { accept: 'application/json', ...(token !== null && { authorization: `Bearer ${token}` }) };
  }

  #read<T>(method: string, path: string, schema: Reader<T>, text: string): T {
    try {
      return schema.parse(text === '' ? null : JSON.parse(text));
    } catch (cause) {
      throw this.#notUnderstood(method, path, cause);
    }
  }

  #notUnderstood(method: string, path: string, cause?: unknown): GatewayFailure {
    return new GatewayFailure(
      `${this.#access.url} answered ${method} ${path.split('?')[0]} with something this version does not understand. ` +
        'Check --url, and that gateway and command line are of about the same version (`carrierarr version`).',
      'unreachable',
      false,
      { cause },
    );
  }
}

/** True for what a moment's wait cures: a broken connection, a proxy without a gateway, one that shuts down or is busy. */
function isPassing({ code, retryable }: GatewayFailure): boolean {
  return retryable && ['unreachable', 'draining', 'rate_limited'].includes(code);
}
