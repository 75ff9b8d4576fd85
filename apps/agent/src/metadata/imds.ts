/**
 * EC2's instance metadata service, version 2: a token is got first and sent along. It is asked from the instance itself,
 * so an answer that takes long is none.
 * https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
 */
import type { Clock } from '@carrierarr/platform';
import { httpRequest } from '../status/http.js';
import type { CloudIdentity } from './cloud-identity.js';

const TOKEN_TTL_S = 21_600;
/** Asked for anew before it ends. */
const TOKEN_USED_MS = (TOKEN_TTL_S - 300) * 1000;
const TIMEOUT_MS = 1_000;

/** A notice that the instance will be taken away. */
export interface InterruptionNotice {
  /** `spot`: it will be taken; `rebalance`: it is likelier than usual. */
  kind: 'spot' | 'rebalance';
  /** Epoch ms. */
  atMs: number | undefined;
  detail: string;
}

export class Imds {
  readonly #base: string;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  #token: { text: string; sinceMs: number } | undefined;

  constructor(base: string, clock: Clock, timeoutMs = TIMEOUT_MS) {
    this.#base = base;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  /** Undefined on what is no EC2 instance. Never rejects. */
  async identity(): Promise<CloudIdentity | undefined> {
    try {
      const instanceId = await this.#get('meta-data/instance-id');
      if (instanceId === undefined) return undefined;
      const [region, az, publicIp] = await Promise.all(
        ['meta-data/placement/region', 'meta-data/placement/availability-zone', 'meta-data/public-ipv4'].map((path) =>
          this.#get(path).catch(() => undefined),
        ),
      );
      return { instanceId, region: region ?? '', az: az ?? '', publicIp: publicIp ?? '' };
    } catch {
      return undefined;
    }
  }

  /** The most urgent notice there is. Rejects when the service does not answer: no answer is not "none". */
  async interruption(): Promise<InterruptionNotice | undefined> {
    const action = await this.#get('meta-data/spot/instance-action');
    if (action !== undefined) return spotNotice(action);
    const rebalance = await this.#get('meta-data/events/recommendations/rebalance');
    return rebalance === undefined ? undefined : rebalanceNotice(rebalance);
  }

  /** Undefined for 404: there is no such thing. */
  async #get(path: string): Promise<string | undefined> {
    const ask = async () =>
      httpRequest(`${this.#base.replace(/\/$/, '')}/latest/${path}`, {
        headers: { 'x-aws-ec2-metadata-token': await this.#freshToken() },
        timeoutMs: this.#timeoutMs,
      });
    let answer = await ask();
    if (answer.status === 401) {
      this.#token = undefined;
      answer = await ask();
    }
    if (answer.status === 404) return undefined;
    if (answer.status !== 200)
      throw new Error(`Expected 200 or 404 for ${path} from the metadata service, got ${answer.status}.`);
    return answer.body.trim();
  }

  async #freshToken(): Promise<string> {
    const now = this.#clock.monotonicMs();
    if (this.#token !== undefined && now - this.#token.sinceMs < TOKEN_USED_MS) return this.#token.text;
    const { status, body } = await httpRequest(`${this.#base.replace(/\/$/, '')}/latest/api/token`, {
      method: 'PUT',
      headers: { 'x-aws-ec2-metadata-token-ttl-seconds': String(TOKEN_TTL_S) },
      timeoutMs: this.#timeoutMs,
    });
    if (status !== 200) throw new Error(`Expected a token from the metadata service, got status ${status}.`);
    this.#token = { text: body.trim(), sinceMs: now };
    return this.#token.text;
  }
}

/** From `{"action":"terminate","time":"2017-09-18T08:22:00Z"}`. It is a notice even if it cannot be read. */
export function spotNotice(text: string): InterruptionNotice {
  const { action, time } = jsonOf(text);
  const detail = typeof action === 'string' && action !== '' ? action : 'taken back';
  return { kind: 'spot', atMs: timeOf(time), detail };
}

/** From `{"noticeTime":"2020-10-26T08:22:00Z"}`, which says when it was given, not when it will happen. */
export function rebalanceNotice(text: string): InterruptionNotice {
  const { noticeTime } = jsonOf(text);
  const detail = typeof noticeTime === 'string' ? `recommended at ${noticeTime}` : 'recommended';
  return { kind: 'rebalance', atMs: undefined, detail };
}

function jsonOf(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function timeOf(value: unknown): number | undefined {
  const ms = typeof value === 'string' ? Date.parse(value) : Number.NaN;
  return Number.isFinite(ms) ? ms : undefined;
}
