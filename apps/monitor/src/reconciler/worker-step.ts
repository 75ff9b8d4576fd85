/**
 * One look at one Worker: view, plan, effects. Almost all looks find nothing to do, and those ask Redis nothing.
 *
 * The order of the effects is what makes crashes harmless. First the status, which says what command will be given, under
 * what token, if nobody has changed the Worker meanwhile; only then the command. Whoever dies in between leaves a note that
 * the next leader acts on with the same token, which is the same command.
 */
import { targetOf, type WorkerResource } from '@carrierarr/protocol';
import { type ExecutionView, type OthersWork, planWorker, type WorkerPlan } from '@carrierarr/reconcile';
import type { Effects } from './effects.js';
import type { Fleet } from './fleet.js';
import type { InFlight } from './in-flight.js';
import type { Others } from './others.js';
import type { StepResult } from './step-result.js';
import type { Views } from './view.js';

/** Look again this soon while somebody else uses the target, ms. */
const BUSY_RECHECK_MS = 5_000;

export interface WorkerStepOptions {
  fleet: Fleet;
  views: Views;
  inFlight: InFlight;
  others: Pick<Others, 'on'>;
  effects: Effects;
  /** Why the repair of a group (a pool's name, or '') is halted, if it is. */
  haltOf: (group: string) => string | undefined;
}

export class WorkerStep {
  readonly #o: WorkerStepOptions;
  /** Workers whose stop has been decided and not been written down: they do not count as ready any more. */
  readonly #stopping = new Set<string>();

  constructor(options: WorkerStepOptions) {
    this.#o = options;
  }

  /** Looks at a Worker and does what its plan says. Resolved at once, without a promise, if there is nothing to do. */
  run(name: string): StepResult | Promise<StepResult> {
    const { fleet, inFlight } = this.#o;
    const worker = fleet.get('Worker', name);
    if (worker === undefined) {
      inFlight.forget(name);
      return {};
    }
    const execution = inFlight.viewOf(name, worker.status?.lastCommand);
    if (execution === undefined) return this.#lookUpFirst(worker);
    return this.#planned(worker, execution);
  }

  async #lookUpFirst(worker: WorkerResource): Promise<StepResult> {
    const { inFlight } = this.#o;
    const command = worker.status?.lastCommand;
    if (command === undefined) return this.#planned(worker, { state: 'none' });
    return this.#planned(worker, await inFlight.lookUp(worker.metadata.name, targetOf(worker), command));
  }

  #planned(worker: WorkerResource, execution: ExecutionView): StepResult | Promise<StepResult> {
    const plan = this.#plan(worker, execution);
    if (isNothing(plan)) return resultOf(plan);
    const { name } = worker.metadata;
    if (plan.command?.verb === 'stop') this.#stopping.add(name);
    return this.#act(worker, execution, plan).finally(() => this.#stopping.delete(name));
  }

  #plan(worker: WorkerResource, execution: ExecutionView, others?: OthersWork): WorkerPlan {
    const { views, fleet, haltOf } = this.#o;
    const { owner } = worker.metadata;
    const pool = owner === undefined ? undefined : fleet.get('WorkerPool', owner.name);
    const halted = haltOf(owner?.name ?? '');
    return planWorker(views.workerView(worker, { execution, pool, others, halted, stopping: this.#stopping }));
  }

  async #act(worker: WorkerResource, execution: ExecutionView, first: WorkerPlan): Promise<StepResult> {
    const { effects, inFlight, others } = this.#o;
    const { name, resourceVersion } = worker.metadata;
    const target = targetOf(worker);
    let plan = first;
    let busy = false;
    if (plan.command !== undefined || plan.finalized === true) {
      // Only now, since it costs questions: what others do may be a reason to wait.
      const work = await others.on(target, worker);
      busy = work.busy;
      plan = this.#plan(worker, execution, work);
    }
    if (plan.status !== undefined) {
      const answer = await effects.write({ ...worker, status: plan.status }, resourceVersion);
      if (answer === 'conflict') return { again: true };
    }
    if (plan.command !== undefined) {
      const { execution: id } = await effects.submit(target, plan.command);
      inFlight.submitted(name, plan.command.token, id);
    }
    effects.tell('Worker', name, plan.events);
    if (plan.finalized === true && (await effects.remove(worker)) === 'conflict') return { again: true };
    // Nobody tells when others are done.
    return busy
      ? resultOf({ requeueAfterMs: Math.min(BUSY_RECHECK_MS, plan.requeueAfterMs ?? BUSY_RECHECK_MS) })
      : resultOf(plan);
  }
}

function isNothing({ status, command, finalized, events }: WorkerPlan): boolean {
  return status === undefined && command === undefined && finalized === undefined && events.length === 0;
}

function resultOf({ requeueAfterMs }: { requeueAfterMs?: number }): StepResult {
  return requeueAfterMs === undefined ? {} : { requeueAfterMs };
}
