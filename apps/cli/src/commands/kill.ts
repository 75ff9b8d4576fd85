/** `carrierarr kill`: ends an execution, or what runs on a target (else cancels what is next there). */
import { partitionOfExecution, targetSchema } from '@carrierarr/protocol';
import { Api } from '../client/api.js';
import { clientSchema, loadClient } from '../client/settings.js';
import { EXIT, UsageError } from '../exit.js';
import type { Verb } from '../host.js';
import { Output } from '../terminal/output.js';

export const kill: Verb = {
  async run(argv, host, summary) {
    const settings = loadClient({
      verb: 'kill',
      summary,
      schema: clientSchema,
      argv,
      host,
      positionals: 'TARGET|EXECUTION',
      count: [1, 1],
    });
    if (settings === null) return EXIT.done;
    const what = settings.positionals[0] ?? '';
    const api = new Api(settings.access);
    if (partitionOfExecution(what) !== undefined) {
      await api.kill(what);
    } else {
      const checked = targetSchema.safeParse(what);
      if (!checked.success) throw new UsageError(`TARGET cannot be \`${what}\`: ${checked.error.issues[0]?.message}.`);
      await api.killTarget(what);
    }
    const output = new Output(host);
    if (settings.values.output === 'json') output.json({ killed: what });
    else output.notice(`The kill of ${what} is on its way.`);
    return EXIT.done;
  },
};
