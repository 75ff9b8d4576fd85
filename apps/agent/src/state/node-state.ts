/** What was ordered for the node, kept over restarts of agent and machine. */
import { constants } from 'node:fs';
import { access, mkdir } from 'node:fs/promises';
import type { Logger } from '@carrierarr/platform';
import { StateFile } from './state-file.js';

interface Kept {
  isDraining: boolean;
}

export class NodeState {
  readonly #folder: string;
  readonly #file: StateFile<Kept>;
  readonly #logger: Logger;
  #isDraining = false;

  constructor(folder: string, logger: Logger) {
    this.#folder = folder;
    this.#file = new StateFile(folder, 'node.json');
    this.#logger = logger;
  }

  /** The node shall get no more work. */
  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** Rejects if the folder cannot be written to. */
  async open(): Promise<void> {
    try {
      await mkdir(this.#folder, { recursive: true, mode: 0o700 });
      await access(this.#folder, constants.W_OK);
    } catch (cause) {
      const message = `The state folder ${this.#folder} cannot be used: ${(cause as Error).message}. Name another with --state-dir.`;
      throw new Error(message, { cause });
    }
    this.#isDraining = (await this.#file.read())?.isDraining === true;
  }

  /** Rejects if it cannot be kept. */
  async setDraining(isDraining: boolean): Promise<void> {
    this.#isDraining = isDraining;
    this.#logger.info({ isDraining }, 'told about draining');
    await this.#file.write({ isDraining });
  }
}
