/** The subcommands. Each is loaded when it is used, so that `carrierarr ps` does not load the gateway. */
import type { Verb } from './host.js';

interface VerbEntry {
  /** One sentence, for `carrierarr --help` and its own. */
  readonly summary: string;
  /** Heading it is listed under. */
  readonly group: 'Start' | 'Use';
  load(): Promise<Verb>;
}

export const VERBS: Readonly<Record<string, VerbEntry>> = {
  up: {
    group: 'Start',
    summary: 'Gateway and runner in one process, with a Redis of its own: everything on one machine.',
    load: async () => (await import('./commands/up.js')).up,
  },
  gateway: {
    group: 'Start',
    summary: 'A gateway: clients connect to it.',
    load: async () => (await import('./commands/gateway.js')).gateway,
  },
  runner: {
    group: 'Start',
    summary: 'A runner: it executes the control script.',
    load: async () => (await import('./commands/runner.js')).runner,
  },
  run: {
    group: 'Use',
    summary: 'Run a command on a target; with --wait show its output and exit with its code.',
    load: async () => (await import('./commands/run.js')).run,
  },
  logs: {
    group: 'Use',
    summary: 'Show the output of a target, or of all that match a pattern such as gpu-*.',
    load: async () => (await import('./commands/logs.js')).logs,
  },
  ps: {
    group: 'Use',
    summary: 'List the commands that run and wait.',
    load: async () => (await import('./commands/ps.js')).ps,
  },
  kill: {
    group: 'Use',
    summary: 'End an execution, or what runs on a target: SIGTERM, then SIGKILL, to all its processes.',
    load: async () => (await import('./commands/kill.js')).kill,
  },
  get: {
    group: 'Use',
    summary: 'List executions (the newest first) or targets.',
    load: async () => (await import('./commands/get.js')).get,
  },
};
