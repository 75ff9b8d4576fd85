/** What time the gateway, or the proxy before it, has. */
import type { GatewayAccess } from '../../client/settings.js';
import { field, requestIfReached } from './request.js';

export interface GatewayTime {
  readonly timeMs: number;
  readonly whose: string;
  /** Its steps: 1 s in a Date header, none in a status. */
  readonly roundsMs: number;
}

/** Undefined where neither tells. */
export async function gatewayTime(access: GatewayAccess): Promise<GatewayTime | undefined> {
  const { headers, json } = await requestIfReached(access, '/api/status');
  const timestamp = field(json, 'timestamp');
  const status = typeof timestamp === 'string' ? Date.parse(timestamp) : Number.NaN;
  if (!Number.isNaN(status)) return { timeMs: status, whose: 'the gateway', roundsMs: 0 };
  // Of the proxy; gateways by themselves send none.
  const date = Date.parse(headers.get('date') ?? '');
  return Number.isNaN(date) ? undefined : { timeMs: date, whose: 'the proxy before the gateway', roundsMs: 1000 };
}
