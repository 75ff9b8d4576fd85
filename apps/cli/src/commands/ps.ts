/** `carrierarr ps`: what runs and what waits, on all targets. */
import { defineSchema, formats } from '@carrierarr/platform/light';
import { Api } from '../client/api.js';
import { targetOfNode } from '../client/node-target.js';
import { clientSchema, loadClient } from '../client/settings.js';
import { EXIT } from '../exit.js';
import type { Verb } from '../host.js';
import { Output } from '../terminal/output.js';
import { executionsTable } from './executions-table.js';

export const psSchema = defineSchema({
  target: { doc: 'Only this target.', format: formats.text, default: null, env: null },
  ...clientSchema,
});

const LISTED_MAX = 5000;

export const ps: Verb = {
  async run(argv, host, summary) {
    const settings = loadClient({ verb: 'ps', summary, schema: psSchema, argv, host, count: [0, 0] });
    if (settings === null) return EXIT.done;
    const { access, values } = settings;
    const api = new Api(access);
    const output = new Output(host);
    const list = async (target: string | null) => {
      const only = target === null ? {} : { target };
      const running = await api.executions({ ...only, state: 'running' }, LISTED_MAX);
      return [...running, ...(await api.executions({ ...only, state: 'queued' }, LISTED_MAX))];
    };
    let listed = await list(values.target);
    if (values.target !== null && listed.length === 0) {
      const target = await targetOfNode(access, values.target, output);
      if (target !== values.target) listed = await list(target);
    }
    if (values.output === 'json') for (const execution of listed) output.json(execution);
    else if (listed.length === 0) output.notice('Nothing runs and nothing waits.');
    else output.text(executionsTable(listed, Date.now()));
    return EXIT.done;
  },
};
