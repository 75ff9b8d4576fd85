/** `carrierarr get workers|pools|nodes|observed|orphans|executions|targets`. */
import { defineSchema, formats } from '@carrierarr/platform/light';
import type { Execution, TargetState } from '@carrierarr/protocol';
import { Api } from '../client/api.js';
import { accessSchema, loadClient } from '../client/settings.js';
import { EXIT, UsageError } from '../exit.js';
import type { Host, Verb } from '../host.js';
import { Output } from '../terminal/output.js';
import { age } from '../terminal/table.js';
import { executionColumns } from './executions-table.js';
import { getNodes } from './get-nodes.js';
import { getObserved, getOrphans, watchObserved } from './get-observed.js';
import { getResources, writeItems } from './get-resources.js';
import { kindOf } from './references.js';
import type { Columns } from './resource-rows.js';

export const getSchema = defineSchema({
  target: { doc: 'Only this target.', format: formats.text, default: null, env: null },
  limit: {
    doc: 'At most so many executions or targets, the newest.',
    format: formats.intBetween(1, 10_000),
    default: 50,
    env: null,
  },
  selector: {
    doc: 'Only workers or pools with these labels, such as team=ml,env!=test.',
    format: formats.text,
    default: null,
    aliases: ['l'],
    env: null,
  },
  watch: {
    doc: 'Go on with each change of workers, pools, nodes or what is observed, until Ctrl-C.',
    format: formats.boolean,
    default: false,
    aliases: ['w'],
    env: null,
  },
  outputWatchEvents: {
    doc: 'With -w: say of each whether it was added, modified or deleted.',
    format: formats.boolean,
    default: false,
    env: null,
  },
  giveUpAfter: {
    doc: 'With -w: how long to try to reach a gateway again before giving up.',
    format: formats.duration,
    default: '10m',
  },
  ...accessSchema,
  output: {
    doc: 'Tables for people, with more columns, or one JSON or YAML document each, or names alone.',
    format: ['table', 'wide', 'json', 'yaml', 'name'],
    default: 'table',
    aliases: ['o'],
  },
});

const WHAT = 'workers|pools|nodes|observed|orphans|executions|targets [NAME...]';

interface Means {
  readonly settings: NonNullable<ReturnType<typeof load>>;
  readonly names: readonly string[];
  readonly output: Output;
}

function load(argv: readonly string[], host: Host, summary: string) {
  return loadClient({
    verb: 'get',
    summary,
    schema: getSchema,
    argv,
    host,
    positionals: WHAT,
    count: [1, Number.MAX_SAFE_INTEGER],
  });
}

export const get: Verb = {
  async run(argv, host, summary) {
    const settings = load(argv, host, summary);
    if (settings === null) return EXIT.done;
    const { access, values } = settings;
    const [first = '', ...rest] = settings.positionals;
    // `get worker/a` as `get -o name` prints it.
    const [what = '', name] = first.split('/', 2);
    const names = name === undefined ? rest : [name, ...rest];
    const output = new Output(host);
    const kind = kindOf(what);
    if (values.outputWatchEvents && !values.watch) throw new UsageError('--output-watch-events is for -w only.');
    if (kind !== undefined) {
      refuse('--target', values.target !== null, 'executions and targets');
      if (names.length > 0 && values.selector !== null) {
        throw new UsageError('Names and -l both say which. Keep one of them.');
      }
      const { selector, output: format, watch: isWatching, outputWatchEvents: withEvents } = values;
      const { giveUpAfter: giveUpAfterMs } = values;
      return getResources(
        { access, kind, names, selector, format, isWatching, withEvents, giveUpAfterMs },
        output,
        host,
      );
    }
    const watchable = ['observed', 'nodes', 'node'].includes(what);
    refuse('-w', values.watch && !watchable, 'workers, pools, nodes and observed');
    refuse('-l', values.selector !== null, 'workers and pools');
    const means: Means = { settings, names, output };
    const wanted = new Set([...names, ...(values.target === null ? [] : [values.target])]);
    const seen = { access, wanted, format: values.output };
    const { watch: isWatching, outputWatchEvents: withEvents, giveUpAfter: giveUpAfterMs } = values;
    switch (what) {
      case 'nodes':
      case 'node':
        refuse('--target', values.target !== null, 'executions and targets');
        return getNodes({ access, names, format: values.output, isWatching, withEvents, giveUpAfterMs }, output, host);
      case 'executions':
      case 'execution':
        return executions(means);
      case 'targets':
      case 'target':
        return targets(means);
      case 'observed':
        return isWatching
          ? watchObserved({ ...seen, withEvents, giveUpAfterMs }, output, host)
          : getObserved(seen, output);
      case 'orphans':
      case 'orphan':
        return getOrphans(seen, output);
      default:
        throw new UsageError(`Expected one of \`${WHAT.split(' ', 1)[0]}\`, got \`${first}\`.`);
    }
  },
};

function refuse(flag: string, isGiven: boolean, what: string): void {
  if (isGiven) throw new UsageError(`${flag} is for ${what} only.`);
}

async function executions({ settings: { access, values }, names, output }: Means): Promise<number> {
  if (names.length > 0)
    throw new UsageError(`Expected nothing after \`executions\`, got \`${names[0]}\`; see --target.`);
  const found = await new Api(access).executions(values.target === null ? {} : { target: values.target }, values.limit);
  writeItems(found, values.output, executionColumns, output, ({ id }: Execution) => id);
  return EXIT.done;
}

async function targets({ settings: { access, values }, names, output }: Means): Promise<number> {
  const wanted = new Set([...names, ...(values.target === null ? [] : [values.target])]);
  const api = new Api(access);
  // One that was active long ago is in no list.
  const lists = await Promise.all(wanted.size === 0 ? [api.targets()] : [...wanted].map((name) => api.targets(name)));
  const all = lists.flat();
  const found = all.toSorted(byActivity).slice(0, values.limit);
  writeItems(found, values.output, targetColumns, output, ({ target }) => target);
  if (found.length < all.length) output.notice(`${all.length - found.length} more: raise --limit.`);
  return EXIT.done;
}

function byActivity(a: TargetState, b: TargetState): number {
  return Date.parse(b.last_activity) - Date.parse(a.last_activity);
}

const targetColumns: Columns<TargetState> = {
  header: ['TARGET', 'STATE', 'WAITING', 'EXECUTION', 'LINES', 'ACTIVE'],
  row: (state, nowMs) => [
    state.target,
    state.running !== undefined ? 'running' : state.blocked_until !== undefined ? 'closed' : 'idle',
    String(state.queued),
    state.running ?? '',
    String(state.last_offset),
    `${age(Date.parse(state.last_activity), nowMs)} ago`,
  ],
};
