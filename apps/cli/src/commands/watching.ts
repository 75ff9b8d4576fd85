/** What `get -w` of anything shares: it goes on until it is ended, and shows each change as rows or documents. */
import type { Change } from '../client/change.js';
import { deferred } from '../deferred.js';
import { EXIT } from '../exit.js';
import { type Host, onSignal } from '../host.js';
import type { Output } from '../terminal/output.js';
import { GrowingTable } from '../terminal/table.js';
import { visible } from '../terminal/visible.js';
import { yamlDocument } from '../terminal/yaml.js';
import type { OutputFormat } from './get-resources.js';
import type { Columns } from './resource-rows.js';

/** Goes on until Ctrl-C, which aborts the signal, or until it ends by itself. Resolves to the exit code. */
export async function untilEnded(host: Host, go: (signal: AbortSignal) => Promise<number>): Promise<number> {
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
    return await Promise.race([ended.promise, go(stop.signal)]);
  } finally {
    stop.abort();
    for (const each of forget) each();
  }
}

export interface ChangeWriterOptions<T> {
  readonly format: OutputFormat;
  /** With a change of what kind it was. */
  readonly withEvents: boolean;
  readonly columns: Columns<T>;
  /** The same of two states of one thing only. */
  readonly keyOf: (item: T) => string;
  /** What `-o name` prints. */
  readonly nameOf: (item: T) => string;
  /** The row of what is there no more. */
  readonly gone: (row: readonly string[]) => readonly string[];
  /** A row without what changes by time alone. */
  readonly still: (item: T) => readonly string[];
}

/** Writes changes, a batch at a time; in a table only those that it shows. */
export function changeWriter<T>(options: ChangeWriterOptions<T>, output: Output): (batch: Change<T>[]) => void {
  const { format, withEvents, keyOf, nameOf, gone, still } = options;
  const { header, row } = options.columns;
  const growing = new GrowingTable(withEvents ? ['EVENT', ...header] : header);
  /** The last row of each: most changes are of what a table does not show. */
  const shown = new Map<string, string>();
  const isNews = ({ type, object }: Change<T>) => {
    const key = keyOf(object);
    const cells = still(object).join('\n');
    const isSame = type === 'MODIFIED' && shown.get(key) === cells;
    if (type === 'DELETED') shown.delete(key);
    else shown.set(key, cells);
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
      else output.text(`${visible(nameOf(change.object))}${change.type === 'DELETED' ? ' deleted' : ''}\n`);
    }
  };
}
