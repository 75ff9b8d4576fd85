/** `carrierarr diff`: how applying files would change spec and labels. Exit codes as of `diff`. */
import { defineSchema } from '@carrierarr/platform/light';
import type { Manifest, Resource } from '@carrierarr/protocol';
import { ResourceApi } from '../client/resource-api.js';
import { accessSchema, loadClient } from '../client/settings.js';
import { isOfAll } from '../client/unreachable.js';
import { EXIT, Failure } from '../exit.js';
import type { Verb } from '../host.js';
import { Output } from '../terminal/output.js';
import { coloured, unifiedDiff } from '../terminal/unified-diff.js';
import { visible } from '../terminal/visible.js';
import { yamlText } from '../terminal/yaml.js';
import { placeText } from './manifests/documents.js';
import { readManifests } from './manifests/manifests.js';
import { filesSchema } from './manifests/schema.js';
import { referenceOf } from './references.js';

export const diffSchema = defineSchema({ ...filesSchema, ...accessSchema });

export const diff: Verb = {
  async run(argv, host, summary) {
    const settings = loadClient({
      verb: 'diff',
      summary,
      schema: diffSchema,
      argv,
      host,
      count: [0, 0],
      notes: 'Exit codes: 0 no differences; 1 differences; above 1 it could not be said.',
    });
    if (settings === null) return EXIT.done;
    const output = new Output(host);
    const { usable, refused } = await readManifests(settings.values.filename, host, output);
    if (usable.length + refused === 0) throw new Failure('There are no resources in the files.', EXIT.usage);
    const api = new ResourceApi(settings.access);
    const isColoured = host.stdout.isTTY === true && !host.env['NO_COLOR'];
    let failed = refused;
    let different = 0;
    for (const { place, manifest } of usable) {
      const reference = referenceOf(manifest);
      try {
        const current = await api.get(manifest.kind, manifest.metadata.name);
        const before = current === undefined ? '' : written(current);
        const text = unifiedDiff(before, written(manifest), [
          visible(`live/${reference}`),
          visible(`file/${reference}`),
        ]);
        if (text !== '') different++;
        output.text(isColoured ? coloured(text) : text);
      } catch (error) {
        if (!(error instanceof Failure) || isOfAll(error)) throw error;
        output.notice(`${placeText(place)}: ${reference}: ${error.message}`);
        failed++;
      }
    }
    if (failed > 0) return EXIT.usage;
    return different > 0 ? EXIT.partly : EXIT.done;
  },
};

/** What an owner writes of it. */
function written({ apiVersion, kind, metadata: { name, labels }, spec }: Manifest | Resource): string {
  return yamlText(sorted({ apiVersion, kind, metadata: { name, labels }, spec }));
}

/** The same with its keys in order, so that only what differs in meaning differs in text. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, each]) => [key, sorted(each)]));
}
