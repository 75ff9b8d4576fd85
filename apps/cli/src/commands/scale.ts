/** `carrierarr scale pool NAME --replicas N`. */
import { defineSchema, formats } from '@carrierarr/platform/light';
import { POOL_REPLICAS_MAX } from '@carrierarr/protocol';
import { retryConflicts } from '../client/conflicts.js';
import { ResourceApi } from '../client/resource-api.js';
import { clientSchema, loadClient } from '../client/settings.js';
import { EXIT, UsageError } from '../exit.js';
import type { Verb } from '../host.js';
import { Output } from '../terminal/output.js';
import { forEachResource } from './change-resources.js';
import { parseReferences } from './references.js';
import { Reporter } from './reporter.js';

export const scaleSchema = defineSchema({
  replicas: {
    doc: 'How many workers the pool is to have.',
    format: formats.intBetween(0, POOL_REPLICAS_MAX),
    default: null,
    env: null,
  },
  ...clientSchema,
});

export const scale: Verb = {
  async run(argv, host, summary) {
    const settings = loadClient({
      verb: 'scale',
      summary,
      schema: scaleSchema,
      argv,
      host,
      positionals: 'pool NAME...',
      count: [1, Number.MAX_SAFE_INTEGER],
    });
    if (settings === null) return EXIT.done;
    const { access, values, positionals } = settings;
    const { replicas } = values;
    if (replicas === null) throw new UsageError('Expected --replicas N, got none.');
    const references = parseReferences(positionals);
    const worker = references.find(({ kind }) => kind === 'Worker');
    if (worker !== undefined) throw new UsageError(`Only pools have a size; \`${worker.name}\` was named as a worker.`);
    const output = new Output(host);
    const reporter = new Reporter(output, values.output === 'json');
    const api = new ResourceApi(access);
    return forEachResource(references, output, async (reference) => {
      await retryConflicts(() => api.patch(reference.kind, reference.name, { spec: { replicas } }));
      reporter.report(reference, `scaled to ${replicas}`, { change: 'scaled', replicas });
    });
  },
};
