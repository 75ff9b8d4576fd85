/** What became of the reconciler's last command for a Worker, and what others do on its target: for plans. */
import { type GivenCommand, SYSTEM_SUBJECTS, type WorkerResource } from '@carrierarr/protocol';
import {
  type ExecutionView,
  LOOKED_AT,
  othersOn,
  recordedView,
  viewOfRecord,
  type WorkerView,
} from '@carrierarr/reconcile';
import type { CommandStore, ExecutionHistory } from '@carrierarr/store';

export interface GivenCommandsOptions {
  store: Pick<CommandStore, 'executionOfToken' | 'commandsOn'>;
  history: Pick<ExecutionHistory, 'get'>;
}

export class GivenCommands {
  readonly #o: GivenCommandsOptions;

  constructor(options: GivenCommandsOptions) {
    this.#o = options;
  }

  async viewOf(target: string, command: GivenCommand | undefined): Promise<ExecutionView> {
    if (command === undefined) return { state: 'none' };
    const recorded = recordedView(command);
    if (recorded !== undefined) return recorded;
    const { store, history } = this.#o;
    const { reconciler } = SYSTEM_SUBJECTS;
    const id = command.execution ?? (await store.executionOfToken(target, reconciler, command.token));
    if (id === undefined) return { state: 'none' };
    return viewOfRecord(id, await history.get(id), Date.parse(command.requestedAt));
  }

  /** What others than a Worker's last command do on its target, as a view of it says that. */
  async othersOn(
    target: string,
    worker: WorkerResource,
  ): Promise<Pick<WorkerView, 'busy' | 'othersEndedAtMs' | 'closedUntilMs'>> {
    const { busy, endedAtMs, closedUntilMs } = othersOn(worker, await this.#o.store.commandsOn(target, LOOKED_AT));
    return {
      busy,
      ...(endedAtMs !== undefined && { othersEndedAtMs: endedAtMs }),
      ...(closedUntilMs !== undefined && { closedUntilMs }),
    };
  }
}
