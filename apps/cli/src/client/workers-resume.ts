/**
 * How far one watcher of the workers has got: it is told of all of them once, and then of what changes, over lost
 * connections and from one gateway to the next. No I/O.
 */
import type { SeenWorker, ServerMessage, StatusPoint, SubscribeMessage } from '@carrierarr/protocol';
import type { Change } from './change.js';
import type { Resumption } from './connection.js';
import type { Admitted } from './resume.js';

export class WorkersResume implements Resumption {
  #point: StatusPoint | undefined;
  /** As many as there are workers. */
  readonly #known = new Map<string, SeenWorker>();

  get isConfirmed(): boolean {
    return this.#point !== undefined;
  }

  subscribe(): SubscribeMessage {
    return { type: 'subscribe', workers: this.#point ?? true, notices: true };
  }

  confirm(message: ServerMessage): boolean {
    return message.type === 'workers';
  }

  admit(message: ServerMessage): Admitted {
    if (message.type === 'workers') this.#point = { epoch: message.epoch, version: message.version };
    return { message };
  }

  /** What a `workers` message changes about what was told before. */
  changesOf({ full, workers, removed }: Extract<ServerMessage, { type: 'workers' }>): Change<SeenWorker>[] {
    const there = new Set(workers.map(({ id }) => id));
    const gone = full ? [...this.#known.keys()].filter((id) => !there.has(id)) : removed;
    return [
      ...gone.flatMap((id): Change<SeenWorker>[] => {
        const object = this.#known.get(id);
        this.#known.delete(id);
        return object === undefined ? [] : [{ type: 'DELETED', object }];
      }),
      ...workers.map((object): Change<SeenWorker> => {
        const isKnown = this.#known.has(object.id);
        this.#known.set(object.id, object);
        return { type: isKnown ? 'MODIFIED' : 'ADDED', object };
      }),
    ];
  }
}
