/**
 * How far one subscription has got, so that another connection, to another gateway, can go on from there without a
 * missing or a doubled line. No I/O: the connection asks it what to subscribe with, and shows it what arrives.
 */
import {
  isPattern,
  isEverything,
  type LogPoint,
  type ServerMessage,
  type ServerMessageOf,
  type SubscribeMessage,
  targetMatcher,
} from '@carrierarr/protocol';

/** Where a subscription begins, the first time. */
export type Start =
  | { readonly kind: 'live' }
  | { readonly kind: 'tail'; readonly lines: number }
  | { readonly kind: 'since'; readonly since: LogPoint | { readonly time: string } };

/** A hole in the offsets that no `gap` announced. */
export interface Hole {
  readonly target: string;
  readonly from: number;
  readonly to: number;
}

export interface Admitted {
  /** Absent if all of it was seen before. */
  readonly message?: ServerMessage;
  readonly hole?: Hole;
}

/** Positions that fit one message: a gateway takes 64 KiB. */
const POSITIONS_BYTES_MAX = 48 * 1024;
/** How far an unlisted target can have been behind the newest message; what comes twice is dropped by its offset. */
const LAG_MS_MAX = 60_000;

export class Resume {
  readonly target: string;
  readonly #start: Start;
  readonly #isOurs: (target: string) => boolean;
  /** By target; the one that wrote last comes last. */
  readonly #positions = new Map<string, LogPoint>();
  #subscribedAt: string | undefined;
  #newestMs = 0;

  constructor(target: string, start: Start) {
    this.target = target;
    this.#start = start;
    this.#isOurs = targetMatcher(target);
  }

  get #isWide(): boolean {
    return isEverything(this.target) || isPattern(this.target);
  }

  /** True once a gateway has taken the subscription. */
  get isConfirmed(): boolean {
    return this.#subscribedAt !== undefined;
  }

  /** The last point seen of a target; undefined before anything is known of it. */
  position(target: string): LogPoint | undefined {
    return this.#positions.get(target);
  }

  /** Go back (or forward) to a point: the next subscription starts after it. */
  rewind(target: string, point: LogPoint): void {
    this.#positions.set(target, point);
  }

  /** The message that subscribes, or resumes. */
  subscribe(): SubscribeMessage {
    const wishes = { offsets: true, batch: true, notices: true, status: false } as const;
    const base = { type: 'subscribe', target: this.target, ...wishes } as const;
    if (!this.#isWide) {
      const seen = this.#positions.get(this.target);
      return seen === undefined ? { ...base, ...first(this.#start) } : { ...base, since: seen };
    }
    if (this.#subscribedAt === undefined) return { ...base, ...first(this.#start) };
    const positions: Record<string, LogPoint> = {};
    let bytes = 0;
    let isComplete = true;
    for (const [target, point] of [...this.#positions].toReversed()) {
      bytes += Buffer.byteLength(JSON.stringify(target)) + JSON.stringify(point).length + 2;
      if (bytes > POSITIONS_BYTES_MAX) {
        isComplete = false;
        break;
      }
      positions[target] = point;
    }
    const time = isComplete ? this.#subscribedAt : new Date(this.#newestMs - LAG_MS_MAX).toISOString();
    return { ...base, since: { time }, positions };
  }

  /** Whether a message says that the gateway took the subscription. */
  confirm(message: ServerMessage): boolean {
    if (message.type !== 'subscribed') return false;
    const { timestamp, epoch, offset } = message;
    this.#subscribedAt ??= timestamp;
    this.#newestMs = Math.max(this.#newestMs, Date.parse(timestamp));
    if (!this.#isWide && epoch !== undefined && offset !== undefined && !this.#positions.has(this.target)) {
      this.#positions.set(this.target, { epoch, offset });
    }
    return true;
  }

  /** Notes what a message brings, and takes away what was seen before. */
  admit(message: ServerMessage): Admitted {
    // A gateway may send the first replayed lines before it confirms; those are ours, another target's are not.
    if ('target' in message && message.target !== undefined && !this.#isOurs(message.target)) return {};
    if (message.type === 'gap') return this.#admitGap(message);
    const place = placeOf(message);
    if (place === undefined) return { message };
    const { target, epoch, offset, count } = place;
    const seen = this.#positions.get(target);
    const isSameLog = seen !== undefined && seen.epoch === epoch;
    const known = isSameLog ? seen.offset - offset + 1 : 0;
    if (known >= count) return {};
    // Deleted first, so that the map is in order of last activity.
    this.#positions.delete(target);
    this.#positions.set(target, { epoch, offset: offset + count - 1 });
    this.#newestMs = Math.max(this.#newestMs, Date.parse(message.timestamp));
    const expected = isSameLog ? seen.offset + 1 : 1;
    const hole = seen !== undefined && offset > expected ? { hole: { target, from: expected, to: offset - 1 } } : {};
    if (known <= 0 || message.type !== 'lines') return { message, ...hole };
    return { message: { ...message, offset: offset + known, lines: message.lines.slice(known) } };
  }

  #admitGap(message: ServerMessageOf<'gap'>): Admitted {
    const seen = this.#positions.get(message.target);
    if (seen !== undefined && seen.epoch === message.epoch && message.to <= seen.offset) return {};
    this.#positions.set(message.target, { epoch: message.epoch, offset: message.to });
    return { message };
  }
}

function first(start: Start): Pick<SubscribeMessage, 'tail' | 'since'> {
  if (start.kind === 'tail') return { tail: start.lines };
  return start.kind === 'since' ? { since: start.since } : {};
}

/** Where in the log a message stands, if it is of the log. */
function placeOf(message: ServerMessage): (LogPoint & { target: string; count: number }) | undefined {
  switch (message.type) {
    case 'lines':
      return { target: message.target, epoch: message.epoch, offset: message.offset, count: message.lines.length };
    case 'stdout':
    case 'stderr':
    case 'log':
    case 'started':
    case 'result':
    case 'error': {
      const { target, epoch, offset } = message;
      if (target === undefined || epoch === undefined || offset === undefined) return undefined;
      return { target, epoch, offset, count: 1 };
    }
    default:
      return undefined;
  }
}
