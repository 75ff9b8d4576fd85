/** `carrierarr delete`: workers and pools, by name or as files say, with their machines unless they are orphaned. */
import { type Clock, defineSchema, formats, systemClock } from '@carrierarr/platform/light';
import { type ResourceKind, RESOURCE_KINDS } from '@carrierarr/protocol';
import { ResourceApi } from '../client/resource-api.js';
import { followResources } from '../client/resource-follow.js';
import { clientSchema, loadClient } from '../client/settings.js';
import { deferred } from '../deferred.js';
import { EXIT, Failure, UsageError } from '../exit.js';
import { type Host, onSignal, type Verb } from '../host.js';
import { Output } from '../terminal/output.js';
import { absent, forEachResource } from './change-resources.js';
import { readManifests } from './manifests/manifests.js';
import { filesSchema } from './manifests/schema.js';
import { parseReferences, type Reference, referenceOf, referenceText } from './references.js';
import { Reporter } from './reporter.js';

export const deleteSchema = defineSchema({
  ...filesSchema,
  orphan: {
    doc: 'Leave the machines as they are. Otherwise they are terminated first, which takes a while.',
    format: formats.boolean,
    default: false,
    env: null,
  },
  wait: { doc: 'Come back when they have gone.', format: formats.boolean, default: false, env: null },
  timeout: { doc: 'With --wait: at most so long.', format: formats.duration, default: null, env: null },
  ignoreNotFound: {
    doc: 'What is not there counts as deleted.',
    format: formats.boolean,
    default: false,
    env: null,
  },
  ...clientSchema,
});

const GIVE_UP_AFTER_MS = 10 * 60_000;

export const deleteVerb: Verb = {
  async run(argv, host, summary) {
    const settings = loadClient({
      verb: 'delete',
      summary,
      schema: deleteSchema,
      argv,
      host,
      positionals: 'worker|pool NAME... | -f FILE',
      count: [0, Number.MAX_SAFE_INTEGER],
    });
    if (settings === null) return EXIT.done;
    const { access, values, positionals } = settings;
    if (values.timeout !== null && !values.wait) throw new UsageError('--timeout is for --wait only.');
    const output = new Output(host);
    const { references, refused } = await wanted(positionals, values.filename, host, output);
    const api = new ResourceApi(access);
    const reporter = new Reporter(output, values.output === 'json');
    /** Which of them is waited for: one made anew under the same name is another. */
    const awaited = new Map<string, { readonly reference: Reference; readonly uid: string }>();
    const exitCode = await forEachResource(references, output, async (reference) => {
      const current = await api.get(reference.kind, reference.name);
      const isThere = current !== undefined && (await api.delete(reference.kind, reference.name, values.orphan));
      if (!isThere) {
        if (!values.ignoreNotFound) throw absent(reference);
        reporter.report(reference, 'is not there', { change: 'unchanged' });
        return;
      }
      awaited.set(referenceText(reference), { reference, uid: current.metadata.uid });
      // Who waits is told when it has gone.
      const isGone = current.metadata.finalizers.length === 0 || values.orphan;
      const text = isGone && reference.kind === 'Worker' ? 'deleted' : 'is being deleted';
      if (!values.wait) reporter.report(reference, text, { change: text === 'deleted' ? 'deleted' : 'deleting' });
    });
    const waited = values.wait
      ? await waitUntilGone([...awaited.values()], { api, reporter, output, host, timeoutMs: values.timeout })
      : EXIT.done;
    if (waited !== EXIT.done) return waited;
    return refused > 0 ? EXIT.partly : exitCode;
  },
};

async function wanted(words: readonly string[], files: readonly string[], host: Host, output: Output) {
  if (words.length > 0) {
    if (files.length > 0) throw new UsageError('Names and -f both say what to delete. Keep one of them.');
    return { references: parseReferences(words), refused: 0 };
  }
  const { usable, refused } = await readManifests(files, host, output);
  if (usable.length + refused === 0) throw new Failure('There are no resources in the files.', EXIT.partly);
  // Pools first: else they would make the workers anew.
  const references = usable
    .map(({ manifest }): Reference => ({ kind: manifest.kind, name: manifest.metadata.name }))
    .toSorted((a, b) => Number(b.kind === 'WorkerPool') - Number(a.kind === 'WorkerPool'));
  return { references, refused };
}

interface Awaited {
  readonly reference: Reference;
  readonly uid: string;
}

interface WaitMeans {
  readonly api: ResourceApi;
  readonly reporter: Reporter;
  readonly output: Output;
  readonly host: Host;
  readonly timeoutMs: number | null;
  readonly clock?: Clock;
}

/** Resolves to the exit code; `done` when all have gone. */
async function waitUntilGone(awaited: readonly Awaited[], means: WaitMeans): Promise<number> {
  const { host, output, timeoutMs, clock = systemClock } = means;
  const stop = new AbortController();
  const ended = deferred<number>();
  const left = new Map(awaited.map((each) => [referenceText(each.reference), each]));
  const advice = () => {
    const [first] = left.keys();
    return `${left.size} not gone yet; \`carrierarr describe ${first ?? ''}\` says why. The deletion goes on.`;
  };
  const timer =
    timeoutMs === null
      ? undefined
      : clock.setTimeout(() => {
          output.notice(advice());
          ended.resolve(EXIT.partly);
        }, timeoutMs);
  const forget = [
    onSignal(host, 'SIGINT', () => {
      output.notice(advice());
      ended.resolve(EXIT.interrupted);
    }),
    onSignal(host, 'SIGTERM', () => ended.resolve(EXIT.terminated)),
  ];
  try {
    const all = RESOURCE_KINDS.map((kind) => waitForKind(kind, left, means, stop.signal));
    return await Promise.race([ended.promise, Promise.all(all).then(() => EXIT.done)]);
  } finally {
    stop.abort();
    timer?.cancel();
    for (const each of forget) each();
  }
}

async function waitForKind(kind: ResourceKind, left: Map<string, Awaited>, means: WaitMeans, signal: AbortSignal) {
  const mine = new Map([...left].filter(([, { reference }]) => reference.kind === kind));
  if (mine.size === 0) return;
  const { api, reporter, output } = means;
  const settle = (key: string, { reference }: Awaited) => {
    mine.delete(key);
    left.delete(key);
    reporter.report(reference, 'deleted', { change: 'deleted' });
  };
  let isFirst = true;
  const batches = followResources({
    ...{ api, kind, selector: null, signal, giveUpAfterMs: GIVE_UP_AFTER_MS },
    onNotice: (text) => output.notice(text),
  });
  for await (const batch of batches) {
    const there = new Set<string>();
    for (const { type, object } of batch) {
      const key = referenceOf(object);
      const one = mine.get(key);
      if (one === undefined) continue;
      if (type !== 'DELETED' && object.metadata.uid === one.uid) there.add(key);
      else settle(key, one);
    }
    // Only the first batch is all there is.
    if (isFirst) for (const [key, one] of mine) if (!there.has(key)) settle(key, one);
    isFirst = false;
    if (mine.size === 0) return;
  }
}
