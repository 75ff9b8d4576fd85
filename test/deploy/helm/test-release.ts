/**
 * A release of the chart in a namespace of its own that demands restricted pods, whose runners run the witness; clients come
 * through the Service, by its port on a node, which this machine must reach.
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'yaml';
import { inCluster, readRepository } from '../../support/deploy-tools.js';
import { type JournalEvent, parseJournal } from '../../support/history.js';
import { PodsWatch } from '../../support/pods-watch.js';
import { Prober } from '../../support/prober.js';
import { WORKSPACE } from '../../support/programs.js';
import { until } from '../../support/until.js';
import { CHART, type ComponentName } from './chart.js';
import { AGENTS_SECRET, rolloutValues } from './rollout.values.js';

const minute = 60_000;

/** What is installed; by default this checkout's chart and its own version, with a machine that has an agent. */
export interface ReleaseOptions {
  /** Path of the chart. */
  chart?: string;
  /** Tag of the images. */
  tag?: string;
  hasAgent?: boolean;
  /** Storage class of its volumes, if pods on several nodes may share one; else they are on one node. */
  sharedClass?: string | undefined;
}

/** The version that images of this checkout have as tag. */
export const appVersion = (parse(readRepository('deploy/helm/carrierarr/Chart.yaml')) as { appVersion: string })
  .appVersion;

export class TestRelease {
  readonly namespace = `carrierarr-rollout-${randomBytes(4).toString('hex')}`;
  url = '';
  token = '';
  #pods: PodsWatch | undefined;
  #folder: string | undefined;

  /** How its pods end. */
  get pods(): PodsWatch {
    if (this.#pods === undefined) throw new Error('Nothing is installed yet: call install() first.');
    return this.#pods;
  }

  /** The namespace, with what the release needs beside it. */
  async #prepare(): Promise<void> {
    await inCluster.kubectl('create', 'namespace', this.namespace);
    await inCluster.kubectl('label', 'namespace', this.namespace, 'pod-security.kubernetes.io/enforce=restricted');
    this.#pods = PodsWatch.start(this.namespace);
    await this.kubectl('create', 'configmap', 'witness', `--from-file=${WORKSPACE}/test/fixtures/witness.sh`);
    const secret = randomBytes(32).toString('hex');
    const literals = [`--from-literal=tokens=agents ${secret}`, `--from-literal=token=${secret}`];
    await this.kubectl('create', 'secret', 'generic', AGENTS_SECRET, ...literals);
  }

  /** Resolves when all is ready. {@link end} takes it away, also where this fails. */
  async install(options: ReleaseOptions = {}): Promise<void> {
    await this.#prepare();
    await this.#helmWith(options, 'install', '--wait', '--timeout', '5m');
    const one = async (...args: string[]) => (await this.kubectl('get', ...args)).trim();
    const port = await one('service', 'main-carrierarr-gateway', '--output', 'jsonpath={.spec.ports[0].nodePort}');
    const address = 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}';
    this.url = `http://${await one('nodes', '--output', address)}:${port}`;
    const text = await one('secret', 'main-carrierarr-auth', '--output', 'jsonpath={.data.token}');
    this.token = Buffer.from(text, 'base64').toString();
  }

  /** Resolves when Helm has told the cluster; pods follow. */
  async upgrade(options: ReleaseOptions): Promise<void> {
    await this.#helmWith(options, 'upgrade');
  }

  /** The values go as JSON: Helm would read some words of YAML otherwise than they are written. */
  async #helmWith({ chart = CHART, ...options }: ReleaseOptions, verb: string, ...args: string[]): Promise<void> {
    this.#folder ??= await mkdtemp(join(tmpdir(), 'rollout-'));
    const values = join(this.#folder, 'values.yaml');
    await writeFile(values, JSON.stringify(rolloutValues({ tag: appVersion, hasAgent: true, ...options })));
    await this.helm(verb, 'main', chart, ...args, '--values', values);
  }

  /** What kubectl printed, asked in the namespace. */
  async kubectl(...args: string[]): Promise<string> {
    return (await inCluster.kubectl('--namespace', this.namespace, ...args)).stdout;
  }

  /** What Helm printed, asked in the namespace. */
  async helm(...args: string[]): Promise<string> {
    return (await inCluster.helm(...args, '--namespace', this.namespace)).stdout;
  }

  async podsOf(component: ComponentName): Promise<string[]> {
    const ours = `app.kubernetes.io/instance=main,app.kubernetes.io/component=${component}`;
    const names = await this.kubectl(
      'get',
      'pods',
      '--selector',
      ours,
      '--output',
      'jsonpath={.items[*].metadata.name}',
    );
    return names.split(' ');
  }

  /** Resolves when the pods of a Deployment or StatefulSet are those that it wants. */
  async rolledOut(workload: string): Promise<void> {
    await this.kubectl('rollout', 'status', workload, '--timeout', '4m');
  }

  /** The record of an execution: on which runner, when, and why it ended so. */
  async recordOf(execution: string): Promise<unknown> {
    const headers = { authorization: `Bearer ${this.token}` };
    return (await fetch(`${this.url}/api/v1/executions/${execution}`, { headers })).json();
  }

  /** What scripts have testified. */
  async journal(): Promise<JournalEvent[]> {
    return parseJournal(
      await this.kubectl('exec', 'deployment/main-carrierarr-runner', '--', 'cat', '/witness/journal'),
    );
  }

  /** What ran before has no place in the history. */
  async forgetJournal(): Promise<void> {
    await this.kubectl('exec', 'deployment/main-carrierarr-runner', '--', 'rm', '-f', '/witness/journal');
  }

  /** Asks for {@link url}'s health all the time. */
  probe(): Prober {
    return Prober.start(`${this.url}/health`);
  }

  /** How each of these pods ended, as soon as it has. */
  async endsOf(names: readonly string[]) {
    return Promise.all(
      names.map(async (name) => ({
        name,
        ...(await until(`${name} to end`, () => this.pods.endOf(name), 4 * minute)),
      })),
    );
  }

  async end(): Promise<void> {
    await this.#pods?.stop();
    await inCluster.kubectl('delete', 'namespace', this.namespace, '--wait=false', '--ignore-not-found');
    if (this.#folder !== undefined) await rm(this.#folder, { recursive: true, force: true });
    await inCluster.forget();
  }
}
