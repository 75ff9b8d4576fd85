/** Resources as they are named on the command line and in what it prints: `worker NAME`, `worker/NAME`. Pure. */
import { type Resource, type ResourceKind, resourceNameSchema } from '@carrierarr/protocol';
import { UsageError } from '../exit.js';

const KINDS: Readonly<Record<string, ResourceKind>> = {
  worker: 'Worker',
  workers: 'Worker',
  pool: 'WorkerPool',
  pools: 'WorkerPool',
  workerpool: 'WorkerPool',
  workerpools: 'WorkerPool',
};

export interface Reference {
  readonly kind: ResourceKind;
  readonly name: string;
}

/** `worker/a`, which is read back by {@link parseReferences}. */
export function referenceOf({ kind, metadata }: Pick<Resource, 'kind'> & { metadata: { name: string } }): string {
  return referenceText({ kind, name: metadata.name });
}

export function referenceText({ kind, name }: Reference): string {
  return `${kind.toLowerCase()}/${name}`;
}

/** Undefined for a word that is no kind. */
export function kindOf(word: string): ResourceKind | undefined {
  const lower = word.toLowerCase();
  return Object.hasOwn(KINDS, lower) ? KINDS[lower] : undefined;
}

/** `worker a b` or `worker/a pool/b`, each at most once. Throws UsageError. */
export function parseReferences(words: readonly string[]): Reference[] {
  const [first = '', ...rest] = words;
  const common = kindOf(first);
  if (common !== undefined && rest.length === 0) throw new UsageError(`Expected a name after \`${first}\`, got none.`);
  const references = common === undefined ? words.map(parsePair) : rest.map((name) => checked(common, name));
  return [...new Map(references.map((each) => [referenceText(each), each])).values()];
}

/** A name as the gateway takes it. Throws UsageError. */
export function checkName(name: string): string {
  const parsed = resourceNameSchema.safeParse(name);
  if (!parsed.success) throw new UsageError(`NAME cannot be \`${name}\`: ${parsed.error.issues[0]?.message}.`);
  // A path has another meaning for these, so that no request can name them.
  if (name === '.' || name === '..')
    throw new UsageError(`NAME cannot be \`${name}\`: no URL can have it in its path.`);
  return name;
}

function checked(kind: ResourceKind, name: string): Reference {
  return { kind, name: checkName(name) };
}

function parsePair(word: string): Reference {
  const slash = word.indexOf('/');
  const kind = kindOf(word.slice(0, slash));
  if (slash < 0 || kind === undefined) {
    throw new UsageError(`Expected \`worker NAME\`, \`pool NAME\`, \`worker/NAME\` or \`pool/NAME\`, got \`${word}\`.`);
  }
  return checked(kind, word.slice(slash + 1));
}
