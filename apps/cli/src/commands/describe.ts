/** `carrierarr describe`: all there is to say of a worker, pool or node: why it is as it is, and what comes next. */
import { defineSchema } from '@carrierarr/platform/light';
import type { Resource, WorkerPoolResource, WorkerResource } from '@carrierarr/protocol';
import { POOL_LABEL, targetOf } from '@carrierarr/protocol';
import { Api } from '../client/api.js';
import { FleetApi } from '../client/fleet-api.js';
import { ResourceApi } from '../client/resource-api.js';
import { accessSchema, type GatewayAccess, loadClient } from '../client/settings.js';
import { isOfAll } from '../client/unreachable.js';
import { EXIT, Failure, UsageError } from '../exit.js';
import type { Verb } from '../host.js';
import { Output } from '../terminal/output.js';
import { describeNodeText } from './describe-node.js';
import { describeText, type Surroundings } from './describe-text.js';
import { parseReferences, type Reference, referenceText } from './references.js';

export const describeSchema = defineSchema({ ...accessSchema });

const EXECUTIONS_SHOWN = 5;

export const describe: Verb = {
  async run(argv, host, summary) {
    const settings = loadClient({
      verb: 'describe',
      summary,
      schema: describeSchema,
      argv,
      host,
      positionals: 'worker|pool|node NAME...',
      count: [1, Number.MAX_SAFE_INTEGER],
    });
    if (settings === null) return EXIT.done;
    const output = new Output(host);
    const nodeNames = nodeNamesOf(settings.positionals);
    if (nodeNames !== undefined) return describeNodes(nodeNames, settings.access, output);
    const references = parseReferences(settings.positionals);
    const api = new ResourceApi(settings.access);
    const commands = new Api(settings.access);
    let missing = 0;
    for (const reference of references) {
      const resource = await api.get(reference.kind, reference.name);
      if (resource === undefined) {
        output.notice(`There is no ${referenceText(reference)}.`);
        missing++;
        continue;
      }
      const text = describeText(resource, await surroundings(resource, { api, commands, output }), Date.now());
      output.text(`${text}${references.length > 1 ? '\n' : ''}`);
    }
    return missing > 0 ? EXIT.partly : EXIT.done;
  },
};

/** `node a b`, `nodes a` or `node/a node/b`; undefined for anything else. Throws UsageError. */
function nodeNamesOf(words: readonly string[]): string[] | undefined {
  const [first = '', ...rest] = words;
  if (/^nodes?$/i.test(first)) {
    if (rest.length === 0) throw new UsageError(`Expected a name after \`${first}\`, got none.`);
    return rest;
  }
  return words.every((word) => /^nodes?\/./i.test(word))
    ? words.map((word) => word.slice(word.indexOf('/') + 1))
    : undefined;
}

async function describeNodes(names: readonly string[], access: GatewayAccess, output: Output): Promise<number> {
  const api = new FleetApi(access);
  const commands = new Api(access);
  let missing = 0;
  for (const name of names) {
    const node = await api.node(name);
    if (node === undefined) {
      output.notice(`There is no node ${name}.`);
      missing++;
      continue;
    }
    const executions = await commands.executions({ target: node.target }, EXECUTIONS_SHOWN).catch((error: unknown) => {
      if (!(error instanceof Failure) || isOfAll(error)) throw error;
      output.notice(`The executions of node ${name} cannot be shown: ${error.message}`);
      return undefined;
    });
    output.text(`${describeNodeText(node, executions, Date.now())}${names.length > 1 ? '\n' : ''}`);
  }
  return missing > 0 ? EXIT.partly : EXIT.done;
}

interface Means {
  readonly api: ResourceApi;
  readonly commands: Api;
  readonly output: Output;
}

async function surroundings(resource: Resource, { api, commands, output }: Means): Promise<Surroundings> {
  const reference: Reference = { kind: resource.kind, name: resource.metadata.name };
  /** What cannot be had must not hide the rest: some of it needs a monitor, some another permission. */
  const tried = async <T>(what: string, answer: Promise<T>): Promise<T | undefined> => {
    try {
      return await answer;
    } catch (error) {
      if (!(error instanceof Failure) || isOfAll(error)) throw error;
      output.notice(`The ${what} of ${referenceText(reference)} cannot be shown: ${error.message}`);
      return undefined;
    }
  };
  const [events, plan, executions, workers] = await Promise.all([
    tried('events', api.events(reference.kind, reference.name)),
    tried('plan', api.plan(reference.kind, reference.name)),
    resource.kind === 'Worker'
      ? tried('executions', commands.executions({ target: targetOf(resource) }, EXECUTIONS_SHOWN))
      : undefined,
    resource.kind === 'WorkerPool' ? tried('workers', workersOf(resource, api)) : undefined,
  ]);
  return { events, plan, executions, workers };
}

async function workersOf({ metadata }: WorkerPoolResource, api: ResourceApi): Promise<WorkerResource[]> {
  // Its name may hold what a selector cannot.
  const { items } = await api.list({ kind: 'Worker', selector: POOL_LABEL });
  return items.filter(
    (item): item is WorkerResource => item.kind === 'Worker' && item.metadata.owner?.uid === metadata.uid,
  );
}
