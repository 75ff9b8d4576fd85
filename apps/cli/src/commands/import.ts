/**
 * `carrierarr import`: brings back what `export` wrote. Machines that run are adopted, not made again: Workers come back
 * under the names that they had, and a pool is kept from making others until its own are back.
 */
import { isDeepStrictEqual } from 'node:util';
import { defineSchema, formats } from '@carrierarr/platform/light';
import type { Manifest } from '@carrierarr/protocol';
import { ResourceApi } from '../client/resource-api.js';
import { clientSchema, loadClient } from '../client/settings.js';
import { isOfAll } from '../client/unreachable.js';
import { EXIT, Failure } from '../exit.js';
import type { Verb } from '../host.js';
import { Output } from '../terminal/output.js';
import { memberManifests } from './backup/members.js';
import { placeText } from './manifests/documents.js';
import { type Located, readManifests } from './manifests/manifests.js';
import { filesSchema } from './manifests/schema.js';
import { referenceOf } from './references.js';
import { Reporter } from './reporter.js';

export const importSchema = defineSchema({
  ...filesSchema,
  dryRun: {
    doc: 'Say what would be restored; write nothing.',
    format: formats.boolean,
    default: false,
    env: null,
  },
  replace: {
    doc: 'Also what is there and differs: it becomes as the files say. Else that is told, and left as it is.',
    format: formats.boolean,
    default: false,
    env: null,
  },
  ...clientSchema,
});

/** An export of nothing has a comment; a shell makes the file before the export begins. */
const BLANK =
  'The files are empty, which those of `carrierarr export` never are: it failed, or something else wrote them. Give a whole export.';

interface Means {
  readonly api: ResourceApi;
  readonly reporter: Reporter;
  readonly isDryRun: boolean;
  readonly isReplacing: boolean;
}

export const importVerb: Verb = {
  async run(argv, host, summary) {
    const notes = 'Exit codes: 0 all is as the files say; 1 some of it is not.';
    const settings = loadClient({ verb: 'import', summary, schema: importSchema, argv, host, count: [0, 0], notes });
    if (settings === null) return EXIT.done;
    const { access, values } = settings;
    const output = new Output(host);
    const manifests = await readManifests(values.filename, host, output);
    if (manifests.usable.length + manifests.refused === 0) {
      if (manifests.isBlank) throw new Failure(BLANK, EXIT.partly);
      output.notice('There is nothing to restore: the files say that there were no workers and pools.');
      return EXIT.done;
    }
    const means: Means = {
      api: new ResourceApi(access),
      reporter: new Reporter(output, values.output === 'json'),
      ...{ isDryRun: values.dryRun, isReplacing: values.replace },
    };
    let failed = manifests.refused;
    for (const located of manifests.usable) {
      try {
        await restore(located, means);
      } catch (error) {
        if (!(error instanceof Failure) || isOfAll(error)) throw error;
        output.notice(`${placeText(located.place)}: ${referenceOf(located.manifest)}: ${error.message}`);
        failed++;
      }
    }
    return failed > 0 ? EXIT.partly : EXIT.done;
  },
};

type Change = 'created' | 'configured' | 'unchanged';

/** Throws `Failure`. */
async function restore({ manifest, status }: Located, means: Means): Promise<void> {
  const { api } = means;
  const { kind, metadata } = manifest;
  const current = await api.get(kind, metadata.name);
  const members = membersIn(manifest, status);
  if (current?.metadata.deletionTimestamp !== undefined) {
    throw new Failure('It is being deleted. Wait until it has gone (`carrierarr delete --wait`), then import again.');
  }
  const isSame =
    current !== undefined &&
    isDeepStrictEqual(current.spec, manifest.spec) &&
    isDeepStrictEqual(current.metadata.labels, metadata.labels);
  const change: Change = current === undefined ? 'created' : isSame ? 'unchanged' : 'configured';
  if (change === 'configured' && !means.isReplacing) {
    throw new Failure(
      'It is there, and differs from the file. --replace makes it as the file says; `carrierarr diff` shows how.',
    );
  }
  const missing = current === undefined ? members : await absentOf(members, api);
  if (!means.isDryRun) await write(manifest, missing, change, api);
  tell(manifest, change, means);
  for (const member of missing) tell(member, 'created', means);
}

function membersIn(manifest: Manifest, status: unknown): Manifest[] {
  if (manifest.kind !== 'WorkerPool') return [];
  try {
    return memberManifests(manifest, status);
  } catch (error) {
    throw new Failure((error as Error).message, EXIT.partly, { cause: error });
  }
}

async function absentOf(members: readonly Manifest[], api: ResourceApi): Promise<Manifest[]> {
  const absent: Manifest[] = [];
  for (const member of members) {
    if ((await api.get('Worker', member.metadata.name)) === undefined) absent.push(member);
  }
  return absent;
}

/** A pool with Workers to bring back stays paused until they are there: else it would make others in their places. */
async function write(
  manifest: Manifest,
  members: readonly Manifest[],
  change: Change,
  api: ResourceApi,
): Promise<void> {
  if (manifest.kind === 'WorkerPool' && members.length > 0) {
    await api.put({ ...manifest, spec: { ...manifest.spec, paused: true } });
    for (const member of members) await api.putMember(member, manifest.metadata.name);
    if (!manifest.spec.paused) await api.put(manifest);
    return;
  }
  if (change !== 'unchanged') await api.put(manifest);
}

function tell({ kind, metadata }: Manifest, change: Change, { reporter, isDryRun }: Means): void {
  const text = isDryRun ? `${change} (dry run)` : change;
  reporter.report({ kind, name: metadata.name }, text, { change, ...(isDryRun && { dry_run: true }) });
}
