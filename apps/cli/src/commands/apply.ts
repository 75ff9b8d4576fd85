/**
 * `carrierarr apply`: makes the resources be as files say. The file is the whole truth about spec and labels: what it
 * does not say gets its default, also if somebody set it by hand.
 */
import { isDeepStrictEqual } from 'node:util';
import { defineSchema, formats } from '@carrierarr/platform/light';
import { type Manifest, type Resource, RESOURCE_KINDS } from '@carrierarr/protocol';
import { retryConflicts } from '../client/conflicts.js';
import { ResourceApi } from '../client/resource-api.js';
import { clientSchema, loadClient } from '../client/settings.js';
import { isOfAll } from '../client/unreachable.js';
import { EXIT, Failure, UsageError } from '../exit.js';
import type { Verb } from '../host.js';
import { Output } from '../terminal/output.js';
import { placeText } from './manifests/documents.js';
import { type Located, type Manifests, readManifests } from './manifests/manifests.js';
import { filesSchema } from './manifests/schema.js';
import { planText } from './plan-text.js';
import { referenceOf } from './references.js';
import { Reporter } from './reporter.js';

export const applySchema = defineSchema({
  ...filesSchema,
  dryRun: {
    doc: 'Ask what would change, and what the reconciler would then do; write nothing.',
    format: formats.boolean,
    default: false,
    env: null,
  },
  prune: {
    doc: 'Then delete the resources with the labels of -l that are in none of the files.',
    format: formats.boolean,
    default: false,
    env: null,
  },
  selector: {
    doc: 'For --prune: the labels of what these files manage, such as team=ml,env!=test.',
    format: formats.text,
    default: null,
    aliases: ['l'],
    env: null,
  },
  ...clientSchema,
});

export const apply: Verb = {
  async run(argv, host, summary) {
    const settings = loadClient({
      verb: 'apply',
      summary,
      schema: applySchema,
      argv,
      host,
      count: [0, 0],
      notes:
        'Status and metadata that `get -o yaml` prints may stand in the files; they are not written.\n' +
        'Exit codes: 0 all is as the files say; 1 some of it is not.',
    });
    if (settings === null) return EXIT.done;
    const { access, values } = settings;
    if (values.prune && !namesOurs(values.selector ?? '')) {
      throw new UsageError(
        '--prune needs -l with at least one LABEL=VALUE: else it would delete much that is none of these files’ business.',
      );
    }
    if (!values.prune && values.selector !== null)
      throw new UsageError('-l is for --prune only. Add that, or leave -l out.');

    const output = new Output(host);
    const manifests = await readManifests(values.filename, host, output);
    if (manifests.usable.length + manifests.refused === 0) {
      throw new Failure('There are no resources in the files.', EXIT.partly);
    }
    const api = new ResourceApi(access);
    const reporter = new Reporter(output, values.output === 'json');
    let failed = manifests.refused;
    for (const each of manifests.usable) {
      if (!(await isApplied(each, { api, reporter, output, isDryRun: values.dryRun }))) failed++;
    }
    if (values.selector !== null) {
      if (manifests.refused > 0) {
        output.notice('Nothing is pruned: what could not be read may be among it.');
      } else {
        failed += await prune(values.selector, manifests, { api, reporter, output, isDryRun: values.dryRun });
      }
    }
    return failed > 0 ? EXIT.partly : EXIT.done;
  },
};

/** True if a selector asks for some label's value, rather than only for what is not there; an empty one means all. */
function namesOurs(selector: string): boolean {
  return selector.split(',').some((part) => /^\s*[^\s!=]+\s*==?/.test(part));
}

interface Means {
  readonly api: ResourceApi;
  readonly reporter: Reporter;
  readonly output: Output;
  readonly isDryRun: boolean;
}

/** False if this one failed, and was told. Throws what would fail for all. */
async function isApplied({ place, manifest }: Located, { api, reporter, output, isDryRun }: Means): Promise<boolean> {
  try {
    if (isDryRun) {
      for (const { kind, name, change, paths, plan } of await api.dryRun(manifest)) {
        const word = change === 'changed' ? 'configured' : change;
        const text = `${word} (dry run): ${planText(plan)}`;
        reporter.report({ kind, name }, text, { change: word, dry_run: true, paths, plan });
      }
    } else {
      const change = await applyManifest(api, manifest);
      reporter.report({ kind: manifest.kind, name: manifest.metadata.name }, change, { change });
    }
    return true;
  } catch (error) {
    if (!(error instanceof Failure) || isOfAll(error)) throw error;
    output.notice(`${placeText(place)}: ${referenceOf(manifest)}: ${error.message}`);
    return false;
  }
}

type Applied = 'created' | 'configured' | 'unchanged';

/** Throws `Failure`. */
async function applyManifest(api: ResourceApi, manifest: Manifest): Promise<Applied> {
  // Of an earlier try: its answer may have been lost, and then the conflict is with ourselves.
  let written: Applied | undefined;
  return retryConflicts(async () => {
    const current = await api.get(manifest.kind, manifest.metadata.name);
    if (current?.metadata.deletionTimestamp !== undefined) {
      throw new Failure('It is being deleted. Wait until it has gone (`carrierarr delete --wait`), then apply again.');
    }
    if (current !== undefined && isAsWritten(current, manifest)) return written ?? 'unchanged';
    written = current === undefined ? 'created' : 'configured';
    const version = current === undefined ? {} : { resourceVersion: current.metadata.resourceVersion };
    await api.put({ ...manifest, metadata: { ...manifest.metadata, ...version } });
    return written;
  });
}

function isAsWritten({ metadata, spec }: Resource, manifest: Manifest): boolean {
  return isDeepStrictEqual(spec, manifest.spec) && isDeepStrictEqual(metadata.labels, manifest.metadata.labels);
}

/** Returns how many could not be deleted. A pool's workers are the pool's business. */
async function prune(selector: string, { usable }: Manifests, means: Means): Promise<number> {
  const { api, reporter, output, isDryRun } = means;
  const kept = new Set(usable.map(({ manifest }) => referenceOf(manifest)));
  const labelled = new Set<string>();
  let failed = 0;
  // Pools first: else they would make the workers anew.
  for (const kind of RESOURCE_KINDS.toReversed()) {
    for (const resource of (await api.list({ kind, selector })).items) {
      const reference = referenceOf(resource);
      labelled.add(reference);
      const { name, owner, deletionTimestamp } = resource.metadata;
      if (kept.has(reference) || owner !== undefined || deletionTimestamp !== undefined) continue;
      try {
        if (!isDryRun) await api.delete(kind, name, false);
        reporter.report({ kind, name }, isDryRun ? 'pruned (dry run)' : 'pruned', {
          change: 'pruned',
          ...(isDryRun && { dry_run: true }),
        });
      } catch (error) {
        if (!(error instanceof Failure) || isOfAll(error)) throw error;
        output.notice(`${reference}: ${error.message}`);
        failed++;
      }
    }
  }
  const strange = isDryRun ? [] : [...kept].filter((reference) => !labelled.has(reference));
  if (strange.length > 0) {
    const more = strange.length > 1 ? ` and ${strange.length - 1} more` : '';
    output.notice(`${strange[0]}${more} in the files lack the labels of -l: a later --prune will not find them.`);
  }
  return failed;
}
