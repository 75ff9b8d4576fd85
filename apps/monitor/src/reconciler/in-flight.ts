/**
 * What became of the commands that the reconciler gave. A command that has not ended is looked up twice a second; who
 * waits for none asks for nothing. A look that comes late delays the next step of one worker, and nothing else: what
 * counts is in Redis.
 */
import { type Clock, type Logger, type Timer } from '@carrierarr/platform';
import { type GivenCommand, SYSTEM_SUBJECTS } from '@carrierarr/protocol';
import { type ExecutionView, recordedView, viewOfRecord } from '@carrierarr/reconcile';
import type { CommandStore, ExecutionHistory } from '@carrierarr/store';

export const LOOK_MS = 500;
/** Commands looked up at once; with more in flight they take turns. */
export const LOOKUPS_MAX = 250;

export interface InFlightOptions {
  store: Pick<CommandStore, 'executionOfToken'>;
  history: Pick<ExecutionHistory, 'progress'>;
  /** The command of a Worker has begun or ended. */
  onChange: (worker: string, view: ExecutionView) => void;
  clock: Clock;
  logger: Pick<Logger, 'debug'>;
}

interface Tracked {
  readonly token: string;
  view: ExecutionView;
}

export class InFlight {
  readonly #o: InFlightOptions;
  /** By the Worker's name: of each only the last command is of interest. */
  readonly #tracked = new Map<string, Tracked>();
  /** Names whose command has not ended, the one not looked up for longest first. */
  readonly #open = new Set<string>();
  #timer: Timer | undefined;
  #isStopped = false;

  constructor(options: InFlightOptions) {
    this.#o = options;
  }

  /** Commands that have not ended, as far as is known. */
  get size(): number {
    return this.#open.size;
  }

  /** The execution of a Worker's last command; undefined if it must be looked up first. */
  viewOf(worker: string, command: GivenCommand | undefined): ExecutionView | undefined {
    if (command === undefined) return { state: 'none' };
    const tracked = this.#tracked.get(worker);
    const ended = recordedView(command);
    if (ended !== undefined) {
      if (tracked?.token === command.token) this.forget(worker);
      return ended;
    }
    return tracked?.token === command.token ? tracked.view : undefined;
  }

  /** Finds the execution of a Worker's last command, and watches it until it has ended. */
  async lookUp(worker: string, target: string, command: GivenCommand): Promise<ExecutionView> {
    const { store, history } = this.#o;
    const { reconciler } = SYSTEM_SUBJECTS;
    const id = command.execution ?? (await store.executionOfToken(target, reconciler, command.token));
    // It was written down and never submitted.
    if (id === undefined) return { state: 'none' };
    const view = viewOfRecord(id, await history.progress(id), Date.parse(command.requestedAt));
    this.#track(worker, { token: command.token, view });
    return view;
  }

  /** A command was accepted. */
  submitted(worker: string, token: string, id: string): void {
    this.#track(worker, { token, view: { state: 'queued', id } });
  }

  forget(worker: string): void {
    this.#tracked.delete(worker);
    this.#open.delete(worker);
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  #track(worker: string, tracked: Tracked): void {
    this.#tracked.set(worker, tracked);
    if (tracked.view.state === 'ended') this.#open.delete(worker);
    else this.#open.add(worker);
    this.#arm();
  }

  #arm(): void {
    if (this.#isStopped || this.#timer !== undefined || this.#open.size === 0) return;
    const { clock, logger } = this.#o;
    this.#timer = clock.setTimeout(() => {
      void this.#look()
        .catch((error: unknown) => logger.debug({ err: error }, 'commands in flight could not be looked up'))
        .finally(() => {
          this.#timer = undefined;
          this.#arm();
        });
    }, LOOK_MS);
  }

  async #look(): Promise<void> {
    const names = [...this.#open].slice(0, LOOKUPS_MAX);
    await Promise.all(names.map((name) => this.#lookAt(name)));
  }

  async #lookAt(worker: string): Promise<void> {
    const tracked = this.#tracked.get(worker);
    if (tracked === undefined || !('id' in tracked.view)) return;
    const { id, state } = tracked.view;
    const view = viewOfRecord(id, await this.#o.history.progress(id), this.#o.clock.now());
    if (this.#isStopped || this.#tracked.get(worker) !== tracked) return;
    // To the end of the line.
    this.#open.delete(worker);
    tracked.view = view;
    if (view.state !== 'ended') this.#open.add(worker);
    if (view.state !== state) this.#o.onChange(worker, view);
  }
}
