/** Text to manifests: YAML or JSON, several documents in one text. Each problem says where it is. Pure. */
import {
  type Manifest,
  manifestSchema,
  metadataSchema,
  RESOURCE_API_VERSION,
  RESOURCE_KINDS,
} from '@carrierarr/protocol';
import { type Document, isNode, LineCounter, type Node, parseAllDocuments, parseDocument } from 'yaml';

/** Most documents of one text. */
const DOCUMENTS_MAX = 20_000;
/** Texts are shown by us, with their place. */
const YAML = { prettyErrors: false, logLevel: 'silent', schema: 'core' } as const;
/** Most problems told of one document. */
const PROBLEMS_MAX = 10;
const VALUE_LENGTH_MAX = 60;

export interface Place {
  readonly file: string;
  /** From 1; empty documents count. */
  readonly document: number;
  /** From 1. */
  readonly line: number;
}

export type Parsed =
  | { readonly place: Place; readonly manifest: Manifest; readonly status?: unknown }
  /** It cannot be used; at least one. */
  | { readonly place: Place; readonly problems: readonly Problem[] };

export interface Problem {
  readonly place: Place;
  readonly text: string;
}

/** `fleet.yaml, document 2, line 14`. */
export function placeText({ file, document, line }: Place): string {
  return `${file}, document ${document}, line ${line}`;
}

/** Documents without content (comments alone) are left out. Everything that `get -o yaml` adds is dropped. */
export function parseManifests(file: string, text: string): Parsed[] {
  let documents: readonly Split[];
  try {
    documents = splitText(text);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return [refuse({ file, document: 1, line: 1 }, 'It is no usable YAML: it is nested too deeply.')];
  }
  if (documents.length > DOCUMENTS_MAX) {
    const place = { file, document: DOCUMENTS_MAX + 1, line: 1 };
    return [refuse(place, `The file has ${documents.length} documents; at most ${DOCUMENTS_MAX} are read at once.`)];
  }
  return documents.flatMap(({ document, lineOf }, index) => {
    if (isEmpty(document)) return [];
    return [read(document, (offset) => ({ file, document: index + 1, line: lineOf(offset) }))];
  });
}

interface Split {
  readonly document: Document.Parsed;
  /** The line of a position in the text. */
  readonly lineOf: (offset: number) => number;
}

/** YAML (of which JSON is a part), or a JSON document on each line as `get -o json` prints them. */
function splitText(text: string): Split[] {
  const lines = text.split('\n');
  if (lines.filter((line) => line.trim() !== '').length > 1 && lines.every(isObjectOrBlank)) {
    return lines.flatMap((line, index) =>
      line.trim() === '' ? [] : [{ document: parseDocument(line, YAML), lineOf: () => index + 1 }],
    );
  }
  const lineCounter = new LineCounter();
  const documents = parseAllDocuments(text, { ...YAML, lineCounter });
  if ('empty' in documents) return [];
  return documents.map((document) => ({ document, lineOf: (offset) => lineCounter.linePos(offset).line || 1 }));
}

function isObjectOrBlank(line: string): boolean {
  const word = line.trim();
  if (word === '') return true;
  if (!word.startsWith('{')) return false;
  try {
    JSON.parse(word);
    return true;
  } catch {
    return false; // Then it is a line of a larger document, or the YAML parser says what is wrong with it.
  }
}

function isEmpty({ contents, errors }: Document.Parsed): boolean {
  return errors.length === 0 && (contents === null || ('value' in contents && contents.value === null));
}

function read(document: Document.Parsed, placeAt: (offset: number) => Place): Parsed {
  const place = placeAt(document.contents?.range[0] ?? document.range[0]);
  // A warning is about a tag that means nothing here: whoever wrote it meant something.
  const [broken] = [...document.errors, ...document.warnings];
  if (broken !== undefined) {
    return { place, problems: [{ place: placeAt(broken.pos[0]), text: `It is no valid YAML: ${broken.message}.` }] };
  }
  let value: unknown;
  try {
    value = document.toJS();
  } catch (error) {
    // Aliases of aliases that would fill the memory.
    return refuse(place, `It is no usable YAML: ${(error as Error).message}.`);
  }
  const at = (path: readonly PropertyKey[]) => placeAt(offsetOf(document, path) ?? document.range[0]);
  const problems = problemsOf(value);
  if (problems.length === 0) {
    const parsed = manifestSchema.safeParse(stripped(value), { reportInput: true });
    if (parsed.success) return { place, manifest: parsed.data, ...statusOf(value) };
    problems.push(...parsed.error.issues.flatMap(tell));
  }
  const told = problems.slice(0, PROBLEMS_MAX).map(({ path, text }) => ({ place: at(path), text }));
  return { place, problems: told };
}

function refuse(place: Place, text: string): Parsed {
  return { place, problems: [{ place, text }] };
}

/** Where in the text the value at a path begins: its key, or the nearest thing around it that is there. */
function offsetOf(document: Document.Parsed, path: readonly PropertyKey[]): number | undefined {
  for (let length = path.length; length >= 0; length--) {
    const found: unknown = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
    if (isNode(found) && found.range) return (found satisfies Node).range?.[0];
  }
  return undefined;
}

interface Told {
  readonly path: readonly PropertyKey[];
  readonly text: string;
}

const SERVER_METADATA = new Set(Object.keys(metadataSchema.shape));

/** What the schema would not say well, or not at all. */
function problemsOf(value: unknown): Told[] {
  if (!isObject(value)) {
    return [{ path: [], text: `Expected a resource (apiVersion, kind, metadata, spec), got ${shown(value)}.` }];
  }
  const problems: Told[] = [];
  const { apiVersion, kind, metadata } = value;
  if (apiVersion !== RESOURCE_API_VERSION) {
    problems.push({
      path: ['apiVersion'],
      text: `apiVersion: Expected ${RESOURCE_API_VERSION}, got ${shown(apiVersion)}.`,
    });
  }
  if (!RESOURCE_KINDS.some((each) => each === kind)) {
    problems.push({ path: ['kind'], text: `kind: Expected ${RESOURCE_KINDS.join(' or ')}, got ${shown(kind)}.` });
  }
  // The schema drops what it does not know here, so that a misspelt `labels` would go unnoticed.
  for (const key of isObject(metadata) ? Object.keys(metadata) : []) {
    if (SERVER_METADATA.has(key)) continue;
    problems.push({
      path: ['metadata', key],
      text: `metadata: There is no field ${shown(key)}; allowed are name and labels.`,
    });
  }
  // As in a URL's path, where they mean another: no request could name it.
  if (isObject(metadata) && (metadata['name'] === '.' || metadata['name'] === '..')) {
    problems.push({
      path: ['metadata', 'name'],
      text: `metadata.name: Expected another name than ${metadata['name']}.`,
    });
  }
  return problems;
}

/** Only `import` reads it: a backup has in it what is the pool's business to others. */
function statusOf(value: unknown): { status?: unknown } {
  return isObject(value) && 'status' in value ? { status: value['status'] } : {};
}

/** Without what is the server's. */
function stripped(value: unknown): unknown {
  if (!isObject(value)) return value;
  const { status: _, metadata, ...written } = value;
  if (!isObject(metadata)) return { ...written, ...('metadata' in value && { metadata }) };
  const { name, labels } = metadata;
  return { ...written, metadata: { ...('name' in metadata && { name }), ...('labels' in metadata && { labels }) } };
}

interface Issue {
  readonly code: string;
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly input?: unknown;
  readonly keys?: readonly string[];
  readonly values?: readonly unknown[];
  readonly issues?: readonly { readonly message: string }[];
}

/** One sentence a problem: path, what is allowed, what was received. */
function tell(issue: Issue): Told[] {
  const { code, path, input } = issue;
  if (code === 'unrecognized_keys') {
    return (issue.keys ?? []).map((key) => {
      const within = path.length === 0 ? '' : `${pathText(path)}: `;
      return { path: [...path, key], text: `${within}There is no field ${shown(key)} here.` };
    });
  }
  const allowed =
    code === 'invalid_value'
      ? `Expected ${(issue.values ?? []).map(String).join(', ')}`
      : (issue.issues?.[0]?.message ?? issue.message);
  return [{ path, text: `${pathText(path)}: ${allowed}; got ${shown(input)}.` }];
}

function pathText(path: readonly PropertyKey[]): string {
  return path.map(String).join('.');
}

/** A received value, shortened. */
function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value) ?? typeof value;
  return text.length > VALUE_LENGTH_MAX ? `${text.slice(0, VALUE_LENGTH_MAX - 3)}...` : text;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
