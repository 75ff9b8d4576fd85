/** Optimistic concurrency, seen from the writer: read, decide, write, and all of it again if somebody was faster. */
import { GatewayFailure } from './unreachable.js';

const TRIES_MAX = 8;

/** `attempt` reads what there is each time it is called. Throws the last `conflict` when it never got through. */
export async function retryConflicts<T>(attempt: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof GatewayFailure) || error.code !== 'conflict' || tries >= TRIES_MAX) throw error;
    }
  }
}
