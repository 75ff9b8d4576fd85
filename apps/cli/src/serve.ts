/** Runs a program's parts until a signal, with its failure to start told in words for whoever started it. */
import { type Component, Lifecycle, type Logger } from '@carrierarr/platform';
import { EXIT } from './exit.js';
import type { Host } from './host.js';

interface ServeOptions {
  /** The parts in the order they start. `fail` is for a part that finds it cannot go on. */
  readonly components: (fail: (error: Error) => void) => readonly Component[];
  readonly logger: Logger;
  readonly host: Host;
}

/** Resolves to the exit code, once all has stopped. */
export async function serve({ components, logger, host }: ServeOptions): Promise<number> {
  let failure: Error | undefined;
  const fail = (error: Error) => {
    failure ??= error;
    lifecycle.fail(error);
  };
  const watched = components(fail).map((component): Component => ({
    name: component.name,
    stop: () => component.stop?.(),
    ...deadlineOf(component),
    async start() {
      try {
        await component.start?.();
      } catch (error) {
        failure ??= error instanceof Error ? error : new Error(String(error));
        throw error;
      }
    },
  }));
  const lifecycle = new Lifecycle({ components: watched, logger });
  const exitCode = await new Promise<number>((resolve, reject) => {
    const exit = (code: number) => resolve(code);
    const process = { on: host.on.bind(host), off: host.off.bind(host), stderr: host.stderr, exit };
    lifecycle.run(process).catch(reject);
  });
  if (failure === undefined) return exitCode;
  host.stderr.write(`carrierarr: ${failure.message}\n`);
  return EXIT.ours;
}

/** A component that can only be built when those before it have started. `stopDeadlineMs` bounds its stop. */
export function later(name: string, stopDeadlineMs: number, build: () => Component): Component {
  let built: Component | undefined;
  return {
    name,
    stopDeadlineMs,
    start() {
      built = build();
      return built.start?.();
    },
    stop: () => built?.stop?.(),
  };
}

function deadlineOf({ stopDeadlineMs }: Component): Pick<Component, 'stopDeadlineMs'> {
  return stopDeadlineMs === undefined ? {} : { stopDeadlineMs };
}
