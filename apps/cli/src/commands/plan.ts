/** `carrierarr plan`: what the reconciler would do now, or would do if files were applied. Nothing is done. */
import { defineSchema } from '@carrierarr/platform/light';
import { ResourceApi } from '../client/resource-api.js';
import { clientSchema, loadClient } from '../client/settings.js';
import { EXIT, Failure, UsageError } from '../exit.js';
import type { Verb } from '../host.js';
import { Output } from '../terminal/output.js';
import { absent, forEachResource } from './change-resources.js';
import { type Located, readManifests } from './manifests/manifests.js';
import { filesSchema } from './manifests/schema.js';
import { planText } from './plan-text.js';
import { parseReferences, type Reference, referenceText } from './references.js';
import { Reporter } from './reporter.js';

export const planSchema = defineSchema({ ...filesSchema, ...clientSchema });

export const plan: Verb = {
  async run(argv, host, summary) {
    const settings = loadClient({
      verb: 'plan',
      summary,
      schema: planSchema,
      argv,
      host,
      positionals: 'worker|pool NAME... | -f FILE',
      count: [0, Number.MAX_SAFE_INTEGER],
    });
    if (settings === null) return EXIT.done;
    const { access, values, positionals } = settings;
    const output = new Output(host);
    const reporter = new Reporter(output, values.output === 'json');
    const api = new ResourceApi(access);
    if (positionals.length > 0) {
      if (values.filename.length > 0) throw new UsageError('Names and -f both say what to plan. Keep one of them.');
      return forEachResource(parseReferences(positionals), output, async (reference) => {
        const found = await api.plan(reference.kind, reference.name);
        if (found === undefined) throw absent(reference);
        reporter.report(reference, planText(found), found);
      });
    }
    const { usable, refused } = await readManifests(values.filename, host, output);
    if (usable.length + refused === 0) throw new Failure('There are no resources in the files.', EXIT.partly);
    const byName = new Map<string, Located>(usable.map((each) => [referenceText(named(each)), each]));
    const exitCode = await forEachResource(usable.map(named), output, async (reference) => {
      const located = byName.get(referenceText(reference));
      for (const item of located === undefined ? [] : await api.dryRun(located.manifest)) {
        reporter.report(item, planText(item.plan), { ...item.plan, change: item.change });
      }
    });
    return refused > 0 ? EXIT.partly : exitCode;
  },
};

function named({ manifest }: Located): Reference {
  return { kind: manifest.kind, name: manifest.metadata.name };
}
