/**
 * Calls of Redis that nobody waits for by the millisecond, gathered for a moment and written to the socket at once. Where thousands of
 * agents say something each half a minute, to write each by itself takes more of this process' time than all else that a call takes.
 * Each is still a call of its own, with an answer of its own, and they reach Redis in the order in which they were made.
 */
import type { RedisConnection } from './connection.js';

/** Longest wait of a call, ms. It is real time, whatever clock its caller goes by. */
const GATHER_MS = 25;
/** As many are written without waiting for others. */
const GATHERED_MAX = 64;

export class GatheredCalls {
  readonly #connection: RedisConnection;
  #waiting: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(connection: RedisConnection) {
    this.#connection = connection;
  }

  /** Makes the call within {@link GATHER_MS}, after all that were given before. Settles as it does. */
  add<T>(call: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#waiting.push(() => void call().then(resolve, reject));
      if (this.#waiting.length >= GATHERED_MAX) this.flush();
      else this.#timer ??= setTimeout(() => this.flush(), GATHER_MS);
    });
  }

  /** Makes those calls now that wait. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const calls = this.#waiting;
    this.#waiting = [];
    // A Cluster has a socket for each server, and no word in which of them it writes.
    const socket = 'stream' in this.#connection ? this.#connection.stream : undefined;
    socket?.cork();
    try {
      for (const call of calls) call();
    } finally {
      socket?.uncork();
    }
  }
}
