/**
 * A pretend cloud: instances, tasks, measurements and messages, with every version they ever had, so that an API can
 * answer as of some time ago, as real ones do.
 */

export interface FakeInstance {
  id: string;
  state: string;
  region?: string;
  tags?: Record<string, string>;
  type?: string;
  publicIp?: string;
  privateIp?: string;
  launchTime?: string;
  isSpot?: boolean;
  stateReason?: { code: string; message: string };
  transitionReason?: string;
  systemStatus?: string;
  instanceStatus?: string;
  events?: { code: string; description: string; notBefore: string }[];
}

export interface FakeTask {
  arn: string;
  region?: string;
  /** Name of its cluster. */
  cluster: string;
  family?: string;
  lastStatus: string;
  desiredStatus: 'RUNNING' | 'STOPPED';
  tags?: Record<string, string>;
  cpu?: string;
  memory?: string;
  launchType?: string;
  capacityProvider?: string;
  privateIp?: string;
  startedAt?: string;
  health?: string;
  stopCode?: string;
  stoppedReason?: string;
  containers?: { name: string; exitCode?: number; reason?: string }[];
}

export interface FakeMessage {
  id: string;
  body: string;
}

/** A thing that keeps all versions it ever had. */
class Versioned<T> {
  readonly #versions = new Map<string, { atMs: number; value: T | undefined }[]>();

  set(id: string, value: T | undefined, atMs: number): void {
    const versions = this.#versions.get(id) ?? [];
    versions.push({ atMs, value: structuredClone(value) });
    this.#versions.set(id, versions);
  }

  /** All as they were at a time, in the order in which they first appeared. */
  asOf(atMs: number): T[] {
    return [...this.#versions.values()].flatMap((versions) => {
      const value = versions.findLast((version) => version.atMs <= atMs)?.value;
      return value === undefined ? [] : [value];
    });
  }

  get(id: string): T | undefined {
    return this.#versions.get(id)?.at(-1)?.value;
  }
}

export class FakeWorld {
  /** How long ago the answers are of, ms. */
  lagMs = 0;
  readonly #nowMs: () => number;
  readonly #instances = new Versioned<FakeInstance>();
  readonly #tasks = new Versioned<FakeTask>();
  /** By instance and metric: newest value, at the begin of its period. */
  readonly measurements = new Map<string, { value: number; atMs: number }>();
  /** In the queue, unread and read. */
  readonly messages: FakeMessage[] = [];

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  get nowMs(): number {
    return this.#nowMs();
  }

  putInstance(instance: FakeInstance): void {
    this.#instances.set(instance.id, instance, this.nowMs);
  }

  /** Changes some facts of an instance. */
  changeInstance(id: string, facts: Partial<FakeInstance>): void {
    const known = this.#instances.get(id);
    if (!known) throw new Error(`There is no instance ${id}.`);
    this.putInstance({ ...known, ...facts });
  }

  /** It is not listed any more, as terminated ones are not after an hour. */
  forgetInstance(id: string): void {
    this.#instances.set(id, undefined, this.nowMs);
  }

  putTask(task: FakeTask): void {
    this.#tasks.set(task.arn, task, this.nowMs);
  }

  changeTask(arn: string, facts: Partial<FakeTask>): void {
    const known = this.#tasks.get(arn);
    if (!known) throw new Error(`There is no task ${arn}.`);
    this.putTask({ ...known, ...facts });
  }

  forgetTask(arn: string): void {
    this.#tasks.set(arn, undefined, this.nowMs);
  }

  measure(instanceId: string, metric: string, value: number, atMs: number): void {
    this.measurements.set(`${instanceId}/${metric}`, { value, atMs });
  }

  instances(region: string): FakeInstance[] {
    return this.#instances.asOf(this.nowMs - this.lagMs).filter((one) => (one.region ?? region) === region);
  }

  tasks(region: string, cluster: string): FakeTask[] {
    return this.#tasks
      .asOf(this.nowMs - this.lagMs)
      .filter((one) => (one.region ?? region) === region && one.cluster === cluster);
  }
}
