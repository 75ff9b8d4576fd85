/** Where lines go: a script's to the stream they came from, our own words to standard error. */
import { once } from 'node:events';
import type { Host } from '../host.js';
import { visible, visibleJson, visibleLine } from './visible.js';

export class Output {
  readonly #host: Host;

  constructor(host: Host) {
    this.#host = host;
  }

  /** Lines of a script. False when the reader is slower than us: wait for `drained` before writing more. */
  lines(stream: 'stdout' | 'stderr', lines: readonly string[]): boolean {
    const to = this.#host[stream];
    const shown = to.isTTY ? lines.map(visibleLine) : lines;
    return to.write(`${shown.join('\n')}\n`);
  }

  /** One JSON document on one line. */
  json(value: unknown): boolean {
    const text = JSON.stringify(value);
    return this.#host.stdout.write(`${this.#host.stdout.isTTY ? visibleJson(text) : text}\n`);
  }

  /** Text of ours, such as a table, whose foreign parts are made visible already. */
  text(text: string): boolean {
    return this.#host.stdout.write(text);
  }

  /** A sentence of ours beside the output. */
  notice(text: string): void {
    this.#host.stderr.write(`carrierarr: ${text.split('\n').map(visible).join('\n')}\n`);
  }

  /** Resolves when both streams take more. */
  async drained(): Promise<void> {
    for (const stream of [this.#host.stdout, this.#host.stderr]) {
      if (stream.writableNeedDrain) await once(stream, 'drain');
    }
  }
}
