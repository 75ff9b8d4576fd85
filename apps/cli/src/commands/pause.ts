/** `carrierarr pause` and `carrierarr resume`: whether the reconciler may act on a worker or pool. */
import { retryConflicts } from '../client/conflicts.js';
import { ResourceApi } from '../client/resource-api.js';
import { clientSchema, loadClient } from '../client/settings.js';
import { EXIT } from '../exit.js';
import type { Verb } from '../host.js';
import { Output } from '../terminal/output.js';
import { absent, forEachResource } from './change-resources.js';
import { parseReferences } from './references.js';
import { Reporter } from './reporter.js';

function verbOf(verb: 'pause' | 'resume'): Verb {
  const paused = verb === 'pause';
  return {
    async run(argv, host, summary) {
      const settings = loadClient({
        verb,
        summary,
        schema: clientSchema,
        argv,
        host,
        positionals: 'worker|pool NAME...',
        count: [1, Number.MAX_SAFE_INTEGER],
      });
      if (settings === null) return EXIT.done;
      const output = new Output(host);
      const reporter = new Reporter(output, settings.values.output === 'json');
      const api = new ResourceApi(settings.access);
      return forEachResource(parseReferences(settings.positionals), output, async (reference) => {
        const change = await retryConflicts(async () => {
          const current = await api.get(reference.kind, reference.name);
          if (current === undefined) throw absent(reference);
          if (current.spec.paused === paused) return 'unchanged';
          await api.patch(reference.kind, reference.name, { spec: { paused } });
          return `${verb}d`;
        });
        reporter.report(reference, change, { change });
      });
    },
  };
}

export const pause = verbOf('pause');
export const resume = verbOf('resume');
