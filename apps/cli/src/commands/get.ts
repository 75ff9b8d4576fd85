/** `carrierarr get executions|targets`. */
import { defineSchema, formats } from '@carrierarr/platform';
import type { TargetState } from '@carrierarr/protocol';
import { Api } from '../client/api.js';
import { clientSchema, loadClient } from '../client/settings.js';
import { EXIT, UsageError } from '../exit.js';
import type { Verb } from '../host.js';
import { Output } from '../terminal/output.js';
import { age, table } from '../terminal/table.js';
import { executionsTable } from './executions-table.js';

export const getSchema = defineSchema({
  target: { doc: 'Only this target.', format: formats.text, default: null, env: null },
  limit: { doc: 'At most so many, the newest.', format: formats.intBetween(1, 10_000), default: 50, env: null },
  ...clientSchema,
});

export const get: Verb = {
  async run(argv, host, summary) {
    const settings = loadClient({
      verb: 'get',
      summary,
      schema: getSchema,
      argv,
      host,
      positionals: 'executions|targets',
      count: [1, 1],
    });
    if (settings === null) return EXIT.done;
    const { access, values, positionals } = settings;
    const api = new Api(access);
    const output = new Output(host);
    const isJson = values.output === 'json';
    switch (positionals[0]) {
      case 'executions':
      case 'execution': {
        const found = await api.executions(values.target === null ? {} : { target: values.target }, values.limit);
        if (isJson) for (const execution of found) output.json(execution);
        else output.text(executionsTable(found, Date.now()));
        return EXIT.done;
      }
      case 'targets':
      case 'target': {
        const all = (await api.targets()).filter(({ target }) => values.target === null || target === values.target);
        const found = all.toSorted(byActivity).slice(0, values.limit);
        if (isJson) for (const target of found) output.json(target);
        else output.text(targetsTable(found, Date.now()));
        if (found.length < all.length) output.notice(`${all.length - found.length} more: raise --limit.`);
        return EXIT.done;
      }
      default:
        throw new UsageError(`Expected \`executions\` or \`targets\`, got \`${positionals[0]}\`.`);
    }
  },
};

function byActivity(a: TargetState, b: TargetState): number {
  return Date.parse(b.last_activity) - Date.parse(a.last_activity);
}

function targetsTable(targets: readonly TargetState[], nowMs: number): string {
  return table(
    ['TARGET', 'STATE', 'WAITING', 'EXECUTION', 'LINES', 'ACTIVE'],
    targets.map((state) => [
      state.target,
      state.running !== undefined ? 'running' : state.blocked_until !== undefined ? 'closed' : 'idle',
      String(state.queued),
      state.running ?? '',
      String(state.last_offset),
      `${age(Date.parse(state.last_activity), nowMs)} ago`,
    ]),
  );
}
