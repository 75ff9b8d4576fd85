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
    summary: 'Gateway, runner and monitor in one process, with a Redis of its own: everything on one machine.',
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
  monitor: {
    group: 'Start',
    summary: 'A monitor: it watches the workers and keeps them as their owners asked.',
    load: async () => (await import('./commands/monitor.js')).monitor,
  },
  agent: {
    group: 'Start',
    summary: 'The agent of a worker machine: announces it, says how it is, and carries out commands there.',
    load: async () => (await import('./commands/agent.js')).agent,
  },
  doctor: {
    group: 'Use',
    summary: 'Look at all that an installation rests on, and say what to do about what is wrong. Changes nothing.',
    load: async () => (await import('./commands/doctor.js')).doctor,
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
    summary: 'List workers, pools, nodes, what monitors see, executions (the newest first) or targets.',
    load: async () => (await import('./commands/get.js')).get,
  },
  apply: {
    group: 'Use',
    summary: 'Make workers and pools be as files say.',
    load: async () => (await import('./commands/apply.js')).apply,
  },
  diff: {
    group: 'Use',
    summary: 'Show how applying files would change workers and pools.',
    load: async () => (await import('./commands/diff.js')).diff,
  },
  export: {
    group: 'Use',
    summary: 'Write down all workers and pools that were asked for, as a backup.',
    load: async () => (await import('./commands/export.js')).exportVerb,
  },
  import: {
    group: 'Use',
    summary: 'Bring back what was exported; machines that run are adopted.',
    load: async () => (await import('./commands/import.js')).importVerb,
  },
  describe: {
    group: 'Use',
    summary: 'Say all there is of a worker, pool or node: why it is as it is, and what comes next.',
    load: async () => (await import('./commands/describe.js')).describe,
  },
  plan: {
    group: 'Use',
    summary: 'Say what would be done about workers or pools now, or if files were applied.',
    load: async () => (await import('./commands/plan.js')).plan,
  },
  scale: {
    group: 'Use',
    summary: 'Change how many workers a pool has.',
    load: async () => (await import('./commands/scale.js')).scale,
  },
  pause: {
    group: 'Use',
    summary: 'Leave workers or pools alone: look, but do nothing.',
    load: async () => (await import('./commands/pause.js')).pause,
  },
  resume: {
    group: 'Use',
    summary: 'Look after paused workers or pools again.',
    load: async () => (await import('./commands/pause.js')).resume,
  },
  delete: {
    group: 'Use',
    summary: 'Delete workers or pools and terminate their machines, unless with --orphan.',
    load: async () => (await import('./commands/delete.js')).deleteVerb,
  },
};
