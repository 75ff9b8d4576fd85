/** Says what became of a resource: `worker/a created`, or a JSON document. */
import type { Output } from '../terminal/output.js';
import { visible } from '../terminal/visible.js';
import { type Reference, referenceText } from './references.js';

export class Reporter {
  readonly #output: Output;
  readonly #isJson: boolean;

  constructor(output: Output, isJson: boolean) {
    this.#output = output;
    this.#isJson = isJson;
  }

  /** `facts` are for programs. */
  report({ kind, name }: Reference, text: string, facts: Readonly<Record<string, unknown>>): void {
    if (this.#isJson) this.#output.json({ kind, name, ...facts });
    else this.#output.text(`${visible(referenceText({ kind, name }))} ${visible(text)}\n`);
  }
}
