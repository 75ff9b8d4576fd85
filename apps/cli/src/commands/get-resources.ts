/** `carrierarr get workers|pools`: once, or with each change until Ctrl-C. */
import type { Resource, ResourceKind } from '@carrierarr/protocol';
import { ResourceApi } from '../client/resource-api.js';
import { followResources } from '../client/resource-follow.js';
import type { GatewayAccess } from '../client/settings.js';
import { EXIT } from '../exit.js';
import type { Host } from '../host.js';
import type { Output } from '../terminal/output.js';
import { GrowingTable } from '../terminal/table.js';
import { visible } from '../terminal/visible.js';
import { yamlDocument } from '../terminal/yaml.js';
import { checkName, referenceOf, referenceText } from './references.js';
import { type Columns, resourceColumns } from './resource-rows.js';
import { changeWriter, untilEnded } from './watching.js';

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
  if (!options.isWatching) return once(options, api, output);
  return untilEnded(host, (signal) => show(options, api, output, signal));
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

/** Shows what there is and each change. Ends by an error only, or when `signal` ends it. */
async function show(options: GetResourcesOptions, api: ResourceApi, output: Output, signal: AbortSignal) {
  const wanted = new Set(options.names);
  const { kind, format, withEvents } = options;
  const columns = resourceColumns(kind, format === 'wide');
  const write = changeWriter<Resource>(
    {
      ...{ format, withEvents, columns, nameOf: referenceOf, keyOf: ({ metadata }) => metadata.name },
      // Its DESIRED says so.
      gone: ([name = '', , ...rest]) => [name, 'gone', ...rest],
      still: (resource) => columns.row(resource, 0),
    },
    output,
  );
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
