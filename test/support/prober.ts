/** Asks a server again and again, each time over a connection of its own, as clients that come anew do. */
import { request } from 'node:http';

const EVERY_MS = 50;
const TIMEOUT_MS = 10_000;

export class Prober {
  answered = 0;
  /** What became of requests that were not answered with 200. */
  readonly failures: string[] = [];
  readonly #timer: NodeJS.Timeout;
  readonly #underWay = new Set<Promise<void>>();

  private constructor(url: string) {
    this.#timer = setInterval(() => {
      const asked: Promise<void> = this.#ask(url).finally(() => this.#underWay.delete(asked));
      this.#underWay.add(asked);
    }, EVERY_MS);
  }

  static start(url: string): Prober {
    return new Prober(url);
  }

  /** Resolves once every request has come to its end. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#underWay);
  }

  async #ask(url: string): Promise<void> {
    try {
      const status = await statusOf(url);
      if (status === 200) this.answered += 1;
      else this.failures.push(`status ${status}`);
    } catch (error) {
      this.failures.push(String(error));
    }
  }
}

function statusOf(url: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { agent: false, timeout: TIMEOUT_MS }, (response) => {
      response.resume().once('end', () => resolve(response.statusCode));
    });
    asked.once('timeout', () => asked.destroy(new Error(`No answer within ${TIMEOUT_MS / 1000} s`)));
    asked.once('error', reject);
    asked.end();
  });
}
