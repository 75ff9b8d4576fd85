/**
 * How pods of a namespace end, as `kubectl get --watch` tells it: one that is gone cannot be asked any more. The kubelet says how
 * its program ended before it lets go of it.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { startKubectl } from './deploy-tools.js';

/** How the first program of a pod ended. */
export interface PodEnd {
  exitCode: number;
  finishedMs: number;
  /** When it would have been killed; undefined if nobody asked it to stop. */
  deadlineMs: number | undefined;
}

const FIELDS = [
  '.metadata.name',
  '.metadata.deletionTimestamp',
  '.status.containerStatuses[*].state.terminated.exitCode',
  '.status.containerStatuses[*].state.terminated.finishedAt',
];
/** No tabs: kubectl makes columns of them. */
const LINE = `jsonpath=${FIELDS.map((field) => `{${field}}`).join('|')}{"\\n"}`;

export class PodsWatch {
  readonly #ends = new Map<string, PodEnd>();
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
    if (child.stdout === null) throw new Error('kubectl has no output to read.');
    createInterface(child.stdout).on('line', (line) => this.#take(line));
  }

  /** From now on nothing that happens in the namespace is missed. */
  static start(namespace: string): PodsWatch {
    return new PodsWatch(startKubectl('get', 'pods', '--namespace', namespace, '--watch', '--output', LINE));
  }

  /** How this pod ended; undefined while it has not. */
  endOf(name: string): PodEnd | undefined {
    return this.#ends.get(name);
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill();
    await once(this.#child, 'exit');
  }

  #take(line: string): void {
    const [name = '', deadline, exitCode, finished] = line.split('|');
    // At its end the deadline is set to the time of that.
    if (!exitCode || !finished || this.#ends.has(name)) return;
    this.#ends.set(name, {
      exitCode: Number(exitCode),
      finishedMs: Date.parse(finished),
      deadlineMs: deadline ? Date.parse(deadline) : undefined,
    });
  }
}
