/** What became of the reconciler's last command for a Worker, and what others do on its target: for plans. */
import { type GivenCommand, SYSTEM_SUBJECTS, type WorkerResource } from '@carrierarr/protocol';
import { type ExecutionView, othersWork, recordedView, viewOfRecord } from '@carrierarr/reconcile';
import type { CommandStore, ExecutionHistory } from '@carrierarr/store';

/** Executions of a target that are looked at, newest first. */
const LOOKED_AT_MAX = 10;

export interface GivenCommandsOptions {
  store: Pick<CommandStore, 'executionOfToken'>;
  history: Pick<ExecutionHistory, 'get' | 'list'>;
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

  /** Whether others than a Worker's last command are at work on its target, and when the last of them ended. */
  async othersOn(target: string, worker: WorkerResource): Promise<{ busy: boolean; othersEndedAtMs?: number }> {
    const { executions } = await this.#o.history.list({ target, limit: LOOKED_AT_MAX });
    const commands = executions.map(({ subject, client_id: token, state, ended_at }) => ({
      ...{ subject, token, hasEnded: state === 'ended' },
      endedAtMs: ended_at === undefined ? undefined : Date.parse(ended_at),
    }));
    const { busy, endedAtMs } = othersWork(worker, commands);
    return { busy, ...(endedAtMs !== undefined && { othersEndedAtMs: endedAtMs }) };
  }
}
