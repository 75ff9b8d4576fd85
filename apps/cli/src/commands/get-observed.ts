/** `carrierarr get observed` and `get orphans`: what monitors see, once or with each change until Ctrl-C. */
import type { SeenWorker, ServerMessage } from '@carrierarr/protocol';
import { Connection } from '../client/connection.js';
import { ResourceApi } from '../client/resource-api.js';
import type { GatewayAccess } from '../client/settings.js';
import { WorkersResume } from '../client/workers-resume.js';
import { deferred } from '../deferred.js';
import { EXIT } from '../exit.js';
import type { Host } from '../host.js';
import type { Output } from '../terminal/output.js';
import { type OutputFormat, writeItems } from './get-resources.js';
import { observedColumns, orphanColumns } from './observed-rows.js';
import { changeWriter, untilEnded } from './watching.js';

export interface GetObservedOptions {
  readonly access: GatewayAccess;
  /** Targets or ids; empty for all. */
  readonly wanted: ReadonlySet<string>;
  readonly format: OutputFormat;
}

export async function getObserved({ access, wanted, format }: GetObservedOptions, output: Output): Promise<number> {
  const { workers, sources } = await new ResourceApi(access).observed();
  const found = workers.filter((worker) => isWanted(worker, wanted));
  writeItems(found, format, observedColumns(format === 'wide'), output, ({ id }) => id);
  if (sources.length === 0) output.notice('No monitor has reported yet: is one running?');
  for (const { source, ok, error } of sources) {
    if (!ok) output.notice(`${source} cannot be seen now: ${error ?? 'its last poll failed'}`);
  }
  return EXIT.done;
}

export async function getOrphans({ access, wanted, format }: GetObservedOptions, output: Output): Promise<number> {
  const found = (await new ResourceApi(access).orphans()).filter((orphan) => isWanted(orphan, wanted));
  if (found.length === 0 && (format === 'table' || format === 'wide')) {
    const which = wanted.size === 0 ? 'Every machine of ours that monitors see' : 'None of these is an orphan: each';
    output.notice(`${which} belongs to a Worker.`);
    return EXIT.done;
  }
  writeItems(found, format, orphanColumns(format === 'wide'), output, ({ id }) => id);
  return EXIT.done;
}

export interface WatchObservedOptions extends GetObservedOptions {
  readonly withEvents: boolean;
  readonly giveUpAfterMs: number;
}

/** Ends by an error, or by Ctrl-C. */
export function watchObserved(options: WatchObservedOptions, output: Output, host: Host): Promise<number> {
  const { access, wanted, format, withEvents, giveUpAfterMs } = options;
  const resume = new WorkersResume();
  const columns = observedColumns(format === 'wide');
  const write = changeWriter<SeenWorker>(
    {
      ...{ format, withEvents, columns, keyOf: ({ id }) => id, nameOf: ({ id }) => id },
      gone: ([target = '', id = '', provider = '', , ...rest]) => [target, id, provider, 'forgotten', ...rest],
      // When it was seen moves with each poll.
      still: (worker) => columns.row({ ...worker, observed_at: new Date(0).toISOString() }, 0),
    },
    output,
  );
  const broken = deferred<never>();
  const show = (message: ServerMessage, connection: Connection) => {
    if (message.type === 'degraded')
      output.notice(`The gateway is degraded (${message.reason}). Changes may come late.`);
    if (message.type === 'restored') output.notice('The gateway is well again.');
    if (message.type === 'error') output.notice(message.error);
    if (message.type !== 'workers') return;
    write(resume.changesOf(message).filter(({ object }) => isWanted(object, wanted)));
    connection.pause();
    output.drained().then(
      () => connection.resume(),
      (error: unknown) => broken.reject(error),
    );
  };
  return untilEnded(host, async (signal) => {
    const connection: Connection = new Connection({
      ...{ access, resume, giveUpAfterMs },
      onNotice: (text) => output.notice(text),
      onMessage: (message) => show(message, connection),
    });
    signal.addEventListener('abort', () => connection.close(), { once: true });
    await connection.start();
    return Promise.race([connection.failed, broken.promise]);
  });
}

function isWanted({ target, id }: Pick<SeenWorker, 'target' | 'id'>, wanted: ReadonlySet<string>): boolean {
  return wanted.size === 0 || wanted.has(target) || wanted.has(id);
}
