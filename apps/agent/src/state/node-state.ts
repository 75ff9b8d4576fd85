/** What was ordered for the node, kept over restarts of agent and machine. */
import type { Logger } from '@carrierarr/platform';
import { StateFile } from './state-file.js';

interface Kept {
  isDraining: boolean;
}

export class NodeState {
  readonly #file: StateFile<Kept>;
  readonly #logger: Logger;
  #isDraining = false;

  constructor(folder: string, logger: Logger) {
    this.#file = new StateFile(folder, 'node.json');
    this.#logger = logger;
  }

  /** The node shall get no more work. */
  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** Never rejects. */
  async open(): Promise<void> {
    this.#isDraining = (await this.#file.read())?.isDraining === true;
  }

  /** Rejects if it cannot be kept. */
  async setDraining(isDraining: boolean): Promise<void> {
    this.#isDraining = isDraining;
    this.#logger.info({ isDraining }, 'told about draining');
    await this.#file.write({ isDraining });
  }
}
