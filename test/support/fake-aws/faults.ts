/** What goes wrong in a pretend cloud, on demand. */

/** An answer that is an error. */
export class FakeAwsError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

interface Bucket {
  readonly burst: number;
  readonly perSecond: number;
  readonly throttled: string;
  tokens: number;
  atMs: number;
}

export class Faults {
  readonly #nowMs: () => number;
  readonly #failures: { operation: string; error: FakeAwsError; left: number }[] = [];
  readonly #buckets = new Map<string, Bucket>();
  readonly #omitted = new Map<string, number>();
  /** ARN to reason: DescribeTasks reports them as failures. */
  readonly taskFailures = new Map<string, string>();
  /** ARNs that DescribeTasks says nothing of. */
  readonly silentTasks = new Set<string>();
  /** What IAM decides of an action, where it is not `allowed`. */
  readonly decisions = new Map<string, 'implicitDeny' | 'explicitDeny'>();
  /** Operations that are never answered. */
  readonly hanging = new Set<string>();
  /** Operations whose answers begin and do not end. */
  readonly stalling = new Set<string>();

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** The next `times` calls of an operation fail. */
  fail(operation: string, error: FakeAwsError, times = 1): void {
    this.#failures.push({ operation, error, left: times });
  }

  /** An operation is throttled by a token bucket from now on, which begins full. */
  throttle(operation: string, { burst, perSecond, code }: { burst: number; perSecond: number; code: string }): void {
    this.#buckets.set(operation, { burst, perSecond, throttled: code, tokens: burst, atMs: this.#nowMs() });
  }

  /** The next `answers` answers leave this instance or task out, though it is there. */
  omit(id: string, answers = 1): void {
    this.#omitted.set(id, answers);
  }

  /** Takes those out of an answer that it is to lie about. */
  truthful<T>(items: readonly T[], idOf: (item: T) => string): T[] {
    return items.filter((item) => {
      const left = this.#omitted.get(idOf(item)) ?? 0;
      if (left > 0) this.#omitted.set(idOf(item), left - 1);
      return left === 0;
    });
  }

  /** Throws if this call is to fail. */
  check(operation: string): void {
    const failure = this.#failures.find((one) => one.operation === operation && one.left > 0);
    if (failure) {
      failure.left -= 1;
      throw failure.error;
    }
    const bucket = this.#buckets.get(operation);
    if (!bucket) return;
    const nowMs = this.#nowMs();
    bucket.tokens = Math.min(bucket.burst, bucket.tokens + ((nowMs - bucket.atMs) / 1000) * bucket.perSecond);
    bucket.atMs = nowMs;
    if (bucket.tokens < 1) throw new FakeAwsError(503, bucket.throttled, 'Request limit exceeded.');
    bucket.tokens -= 1;
  }
}
