/** `carrierarr get workers|pools`: once, or with each change until Ctrl-C. */
import type { Resource, ResourceKind } from '@carrierarr/protocol';
import { ResourceApi } from '../client/resource-api.js';
import { type Change, followResources } from '../client/resource-follow.js';
import type { GatewayAccess } from '../client/settings.js';
import { deferred } from '../deferred.js';
import { EXIT } from '../exit.js';
import { type Host, onSignal } from '../host.js';
import type { Output } from '../terminal/output.js';
import { GrowingTable } from '../terminal/table.js';
import { visible } from '../terminal/visible.js';
import { yamlDocument } from '../terminal/yaml.js';
import { checkName, referenceOf, referenceText } from './references.js';
import { type Columns, resourceColumns } from './resource-rows.js';

export type OutputFormat = 'table' | 'wide' | 'json' | 'yaml' | 'name';

export interface GetResourcesOptions {
  readonly access: GatewayAccess;
  readonly kind: ResourceKind;
  /** Empty for all. */
  readonly names: readonly string[];
  readonly selector: string | null;
  readonly format: OutputFormat;
  readonly isWatching: boolean;
  /** With a change of what kind it was. */
  readonly withEvents: boolean;
  readonly giveUpAfterMs: number;
}

export async function getResources(options: GetResourcesOptions, output: Output, host: Host): Promise<number> {
  for (const name of options.names) checkName(name);
  const api = new ResourceApi(options.access);
  return options.isWatching ? watch(options, api, output, host) : once(options, api, output);
}

async function once(options: GetResourcesOptions, api: ResourceApi, output: Output): Promise<number> {
  const { kind, names, format } = options;
  let missing = 0;
  let found: readonly Resource[];
  if (names.length === 0) {
    found = (await api.list(options)).items;
  } else {
    const all = await Promise.all(names.map((name) => api.get(kind, name)));
    found = all.filter((resource) => resource !== undefined);
    for (const [index, resource] of all.entries()) {
      if (resource !== undefined) continue;
      missing++;
      output.notice(`There is no ${referenceText({ kind, name: names[index] ?? '' })}.`);
    }
  }
  if (found.length === 0 && missing === 0 && ['table', 'wide'].includes(format)) {
    const where = options.selector === null ? '' : ` with the labels ${options.selector}`;
    output.notice(`There are no ${kind === 'Worker' ? 'workers' : 'pools'}${where}.`);
  } else if (found.length > 0) {
    writeItems(found, format, resourceColumns(kind, format === 'wide'), output, referenceOf);
  }
  return missing > 0 ? EXIT.partly : EXIT.done;
}

/** Writes items of any kind in the format asked for; `nameOf` is what `-o name` prints. */
export function writeItems<T>(
  items: readonly T[],
  format: OutputFormat,
  columns: Columns<T>,
  output: Output,
  nameOf: (item: T) => string,
): void {
  switch (format) {
    case 'json':
      for (const item of items) output.json(item);
      return;
    case 'yaml':
      for (const item of items) output.text(yamlDocument(item));
      return;
    case 'name':
      for (const item of items) output.text(`${visible(nameOf(item))}\n`);
      return;
    case 'table':
    case 'wide': {
      const nowMs = Date.now();
      output.text(new GrowingTable(columns.header).rows(items.map((item) => columns.row(item, nowMs))));
    }
  }
}

async function watch(options: GetResourcesOptions, api: ResourceApi, output: Output, host: Host): Promise<number> {
  const stop = new AbortController();
  const ended = deferred<number>();
  const end = (code: number) => {
    ended.resolve(code);
    stop.abort();
  };
  const forget = [
    onSignal(host, 'SIGINT', () => end(EXIT.interrupted)),
    onSignal(host, 'SIGTERM', () => end(EXIT.terminated)),
  ];
  try {
    return await Promise.race([ended.promise, show(options, api, output, stop.signal)]);
  } finally {
    stop.abort();
    for (const each of forget) each();
  }
}

/** Shows what there is and each change. Ends by an error only, or when `signal` ends it. */
async function show(options: GetResourcesOptions, api: ResourceApi, output: Output, signal: AbortSignal) {
  const wanted = new Set(options.names);
  const write = changeWriter(options, output);
  const batches = followResources({
    ...options,
    api,
    signal,
    onNotice: (text) => output.notice(text),
  });
  for await (const batch of batches) {
    if (signal.aborted) break;
    write(batch.filter(({ object }) => wanted.size === 0 || wanted.has(object.metadata.name)));
    await output.drained();
  }
  return EXIT.done;
}

function changeWriter({ kind, format, withEvents }: GetResourcesOptions, output: Output): (batch: Change[]) => void {
  const { header, row } = resourceColumns(kind, format === 'wide');
  const growing = new GrowingTable(withEvents ? ['EVENT', ...header] : header);
  /** The last row of each without its age: most changes are of what a table does not show. */
  const shown = new Map<string, string>();
  const isNews = ({ type, object }: Change) => {
    const { name } = object.metadata;
    const cells = row(object, 0).join('\n');
    const isSame = type === 'MODIFIED' && shown.get(name) === cells;
    if (type === 'DELETED') shown.delete(name);
    else shown.set(name, cells);
    return !isSame;
  };
  return (batch) => {
    if (format === 'table' || format === 'wide') {
      const nowMs = Date.now();
      const rows = batch.filter(isNews).map(({ type, object }) => {
        const cells = type === 'DELETED' ? gone(row(object, nowMs)) : row(object, nowMs);
        return withEvents ? [type, ...cells] : cells;
      });
      output.text(growing.rows(rows));
      return;
    }
    for (const change of batch) {
      const item = withEvents ? change : change.object;
      if (format === 'json') output.json(item);
      else if (format === 'yaml') output.text(yamlDocument(item));
      else output.text(`${visible(referenceOf(change.object))}${change.type === 'DELETED' ? ' deleted' : ''}\n`);
    }
  };
}

/** A row of what is there no more: its DESIRED says so. */
function gone([name = '', , ...rest]: readonly string[]): string[] {
  return [name, 'gone', ...rest];
}
