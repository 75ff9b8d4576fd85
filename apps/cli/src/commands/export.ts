/** `carrierarr export`: all that was asked for, as files that `import` restores and `apply` reads. */
import { defineSchema, formats } from '@carrierarr/platform/light';
import type { Resource, WorkerResource } from '@carrierarr/protocol';
import { ResourceApi } from '../client/resource-api.js';
import { accessSchema, loadClient } from '../client/settings.js';
import { EXIT } from '../exit.js';
import type { Verb } from '../host.js';
import { Output } from '../terminal/output.js';
import { yamlDocument } from '../terminal/yaml.js';
import { membersOf } from './backup/members.js';
import { referenceOf } from './references.js';

export const exportSchema = defineSchema({
  ...accessSchema,
  selector: {
    doc: 'Only workers and pools with these labels, such as team=ml,env!=test.',
    format: formats.text,
    default: null,
    aliases: ['l'],
    env: null,
  },
  output: {
    doc: 'YAML, a document for each worker and pool.',
    format: ['yaml'],
    default: 'yaml',
    aliases: ['o'],
    env: null,
  },
});

export const exportVerb: Verb = {
  async run(argv, host, summary) {
    const settings = loadClient({ verb: 'export', summary, schema: exportSchema, argv, host, count: [0, 0] });
    if (settings === null) return EXIT.done;
    const { access, values } = settings;
    const output = new Output(host);
    const api = new ResourceApi(access);
    const { selector } = values;
    // Workers of pools have labels of their own, and belong to their pools whatever these say.
    const all = (await api.list({ kind: 'Worker', selector: null })).items.filter(isWorker);
    const pools = (await api.list({ kind: 'WorkerPool', selector })).items;
    const workers = (await api.list({ kind: 'Worker', selector })).items.filter(isWorker);
    const alone = workers.filter(({ metadata }) => metadata.owner === undefined);
    let isEmpty = true;
    for (const resource of [...pools, ...alone]) {
      if (resource.metadata.deletionTimestamp !== undefined) {
        output.notice(`${referenceOf(resource)} is left out: it is being deleted.`);
        continue;
      }
      output.text(yamlDocument(written(resource, all)));
      isEmpty = false;
      await output.drained();
    }
    // A file without anything is what is left of an export that failed.
    if (isEmpty) output.text('# There were no workers and pools.\n');
    return EXIT.done;
  },
};

function isWorker(resource: Resource): resource is WorkerResource {
  return resource.kind === 'Worker';
}

/** What its owner wrote, and what only the pool knows. */
function written(resource: Resource, workers: readonly WorkerResource[]) {
  const { apiVersion, kind, metadata, spec } = resource;
  const { name, labels } = metadata;
  const members = resource.kind === 'WorkerPool' ? membersOf(resource, workers) : undefined;
  return { apiVersion, kind, metadata: { name, labels }, spec, ...(members && { status: { workers: members } }) };
}
