/** Clients that have a release run the witness again and again, and what may be said of them at the end. */
import { expect } from 'vitest';
import { AGENT, WITNESS } from './rollout.values.js';
import type { TestRelease } from './test-release.js';
import { checkHistory, summarise } from '../../support/history-checker.js';
import { Recorder } from '../../support/recorder.js';
import { until } from '../../support/until.js';
import { COMMAND_ID, NewClient } from '../../support/ws-clients.js';

const minute = 60_000;
/** What a client runs, one after the other. */
interface Work {
  target: string;
  command: readonly (string | number)[];
}
/** The last runs longer than Kubernetes waits by default for a pod to stop. */
const OF_SCRIPTS: readonly Work[] = [
  { target: 'worker-1', command: ['write', 100, 10, 0.02] },
  { target: 'worker-2', command: ['write', 100, 10, 0.02] },
  { target: 'worker-3', command: ['write', 800, 1, 0.05] },
];
const OF_AGENT: Work = { target: AGENT, command: ['exec', WITNESS, 'write', COMMAND_ID, 100, 10, 0.02] };

export class ReleaseLoad {
  readonly #release: TestRelease;
  readonly #works: readonly Work[];
  readonly #recorder = new Recorder();
  #clients: NewClient[] = [];
  #working: Promise<void>[] = [];
  #isStopped = false;

  private constructor(release: TestRelease, hasAgent: boolean) {
    this.#release = release;
    this.#works = hasAgent ? [...OF_SCRIPTS, OF_AGENT] : OF_SCRIPTS;
  }

  /** Resolves when there is output. */
  static async start(release: TestRelease, { hasAgent = true } = {}): Promise<ReleaseLoad> {
    await release.forgetJournal();
    const load = new ReleaseLoad(release, hasAgent);
    await load.#start();
    return load;
  }

  async #start(): Promise<void> {
    const { url, token } = this.#release;
    this.#clients = await Promise.all(
      this.#works.map((_, index) =>
        NewClient.connect({
          ...{ name: `client ${index + 1}`, urls: () => [url], token, recorder: this.#recorder },
          targets: index === 0 ? '*' : this.#targetsOf(index),
        }),
      ),
    );
    this.#working = this.#works.map((work, index) => this.#work(this.#clients[index] as NewClient, work));
    await this.outputAfter('the start');
  }

  /** One command at a time: else the verdict waits for all that wait. */
  async #work(client: NewClient, { target, command: [verb = '', ...args] }: Work): Promise<void> {
    while (!this.#isStopped) {
      const { execution } = await client.submitUntilAccepted(target, String(verb), ...args);
      const isOver = () => client.session.outcomeOf(execution) !== undefined;
      await until(`the outcome of ${execution}`, isOver, 3 * minute);
    }
  }

  /** What a client watches: the first all, the others what they run, and what the first runs. */
  #targetsOf(index: number): string[] {
    const targets = this.#works.map(({ target }) => target);
    return targets.filter((_, at) => index === 0 || at === 0 || at === index);
  }

  /** Resolves when every client has seen more of each target that it watches. */
  async outputAfter(what: string): Promise<void> {
    const counts = () =>
      this.#clients.flatMap(({ session }, index) => this.#targetsOf(index).map((name) => session.lineCount(name)));
    const before = counts();
    const grows = () => counts().every((count, index) => count > (before[index] ?? 0) + 50);
    await until(`output after ${what}`, grows, 2 * minute);
  }

  /** Ends the load, and holds what clients saw against what scripts wrote. */
  async judge(title: string): Promise<void> {
    this.#isStopped = true;
    await Promise.all(this.#working);
    let pending: string | undefined;
    await until(
      () => `the history to come to rest: ${pending}`,
      async () => (pending = this.#recorder.pending(await this.#release.journal())) === undefined,
      minute,
    );
    const testimony = await this.#release.journal();
    const report = checkHistory(this.#recorder.history(testimony));
    process.stdout.write(`${summarise(title, report)}\n`);
    for (const client of this.#clients) client.stop();
    expect(report.violations.slice(0, 20)).toEqual([]);
    expect(report).toMatchObject({ lost: 0, doubled: 0, reordered: 0, doubleExecutions: 0 });
    const ran = new Set(testimony.flatMap((event) => (event.kind === 'start' ? [event.target] : [])));
    expect(ran).toEqual(new Set(this.#works.map(({ target }) => target)));
    // Each was told to move at least once.
    expect(Math.min(...this.#clients.map(({ connections }) => connections))).toBeGreaterThan(1);
    const results = this.#clients.flatMap(({ messages }) => messages.filter(({ type }) => type === 'result'));
    expect(results.length).toBeGreaterThan(0);
    const odd = results.filter(({ outcome }) => outcome !== 'succeeded').map(({ execution_id: id }) => String(id));
    expect(await Promise.all([...new Set(odd)].map((id) => this.#release.recordOf(id)))).toEqual([]);
  }
}
