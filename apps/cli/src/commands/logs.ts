/**
 * `carrierarr logs`: the output of a target, or of all that match a pattern. Without -f it ends where the log ended
 * when it began; how far that is, the list of targets says.
 */
import { defineSchema, formats, parseDuration } from '@carrierarr/platform/light';
import {
  isPattern,
  type LogPoint,
  partitionOfExecution,
  type ServerMessage,
  TAIL_MAX,
  targetMatcher,
  targetPatternSchema,
  type TargetState,
} from '@carrierarr/protocol';
import { Api } from '../client/api.js';
import { Connection } from '../client/connection.js';
import { targetOfNode } from '../client/node-target.js';
import { isMany, Printer } from '../client/printer.js';
import { Resume, type Start } from '../client/resume.js';
import { type ClientSettings, clientSchema, loadClient } from '../client/settings.js';
import { deferred } from '../deferred.js';
import { EXIT, UsageError } from '../exit.js';
import { type Host, onSignal, type Verb } from '../host.js';
import { Output } from '../terminal/output.js';

export const logsSchema = defineSchema({
  follow: {
    doc: 'Show what comes, too, until Ctrl-C.',
    format: formats.boolean,
    default: false,
    aliases: ['f'],
    env: null,
  },
  tail: {
    doc: `Begin with the last lines of each target: so many. By default ${String(10)} with -f, else ${TAIL_MAX}.`,
    format: formats.intBetween(0, TAIL_MAX),
    default: null,
    aliases: ['n'],
    env: null,
  },
  since: {
    doc: 'Begin with an execution (its id), at a time (RFC 3339), or so long ago (10m).',
    format: formats.text,
    default: null,
    allowed: 'the id of an execution, a time such as 2025-01-31T12:00:00Z, or a duration such as 10m',
    env: null,
  },
  events: {
    doc: 'Say on standard error when executions begin and end.',
    format: formats.boolean,
    default: true,
    env: null,
  },
  giveUpAfter: {
    doc: 'How long to try to reach a gateway again before giving up.',
    format: formats.duration,
    default: '10m',
  },
  ...clientSchema,
});

type Settings = ClientSettings<typeof logsSchema>;

const FOLLOW_TAIL = 10;

export const logs: Verb = {
  async run(argv, host, summary) {
    const settings = loadClient({
      verb: 'logs',
      summary,
      schema: logsSchema,
      argv,
      host,
      positionals: 'TARGET',
      count: [1, 1],
    });
    if (settings === null) return EXIT.done;
    const { access, values, positionals } = settings;
    const named = positionals[0] ?? '';
    const checked = targetPatternSchema.safeParse(named);
    if (!checked.success) throw new UsageError(`TARGET cannot be \`${named}\`: ${checked.error.issues[0]?.message}.`);
    if (values.since !== null && values.tail !== null) {
      throw new UsageError('--since and --tail both say where to begin. Keep one of them.');
    }

    const api = new Api(access);
    const output = new Output(host);
    const target = await located(named, access, api, output);
    const start: Start =
      values.since === null
        ? { kind: 'tail', lines: values.tail ?? (values.follow ? FOLLOW_TAIL : TAIL_MAX) }
        : { kind: 'since', since: await pointOf(values.since, target, api) };
    const ends = values.follow
      ? null
      : endsOf(isPattern(target) ? await api.targets() : await api.targets(target), target);
    if (ends?.size === 0) {
      output.notice(
        `No target matches \`${target}\`, or none has written anything. \`carrierarr get targets\` lists them.`,
      );
      return EXIT.done;
    }
    const { events: withEvents, giveUpAfter } = values;
    const printer = new Printer({ output, isJson: values.output === 'json', withTarget: isMany(target), withEvents });
    return follow({ access, target, start, ends, giveUpAfterMs: giveUpAfter }, printer, output, host);
  },
};

/** A target that has written something is itself, also where a node goes by the same name. */
async function located(named: string, access: Settings['access'], api: Api, output: Output): Promise<string> {
  if (isPattern(named)) return named;
  return (await api.targets(named)).length > 0 ? named : targetOfNode(access, named, output);
}

/** Where `--since` points. */
async function pointOf(since: string, target: string, api: Api): Promise<LogPoint | { time: string }> {
  const agoMs = parseDuration(since);
  if (agoMs !== undefined) return { time: new Date(Date.now() - agoMs).toISOString() };
  if (partitionOfExecution(since) !== undefined) {
    const execution = await api.execution(since);
    const { epoch, first_offset: first, accepted_at: acceptedAt } = execution;
    if (!targetMatcher(target)(execution.target)) {
      throw new UsageError(`The execution ${since} is of ${execution.target}, not of ${target}.`);
    }
    if (isMany(target) || epoch === undefined || first === undefined) return { time: acceptedAt };
    return { epoch, offset: first - 1 };
  }
  const timeMs = /^\d{4}-\d\d-\d\d/.test(since) ? Date.parse(since) : Number.NaN;
  if (Number.isNaN(timeMs)) {
    throw new UsageError(`Expected \`--since\` to be ${logsSchema.since.allowed}, got \`${since}\`.`);
  }
  return { time: new Date(timeMs).toISOString() };
}

/** The end of each matching target's log at this moment. */
function endsOf(targets: readonly TargetState[], target: string): Map<string, LogPoint> {
  const matches = targetMatcher(target);
  const ends = new Map<string, LogPoint>();
  for (const { target: name, epoch, last_offset: offset } of targets) {
    if (epoch !== undefined && offset > 0 && matches(name)) ends.set(name, { epoch, offset });
  }
  return ends;
}

interface FollowOptions {
  readonly access: ConstructorParameters<typeof Api>[0];
  readonly target: string;
  readonly start: Start;
  /** Where to stop; null to go on for ever. */
  readonly ends: Map<string, LogPoint> | null;
  readonly giveUpAfterMs: number;
}

async function follow(options: FollowOptions, printer: Printer, output: Output, host: Host): Promise<number> {
  const { access, target, start, ends, giveUpAfterMs } = options;
  const ended = deferred<number>();
  const resume = new Resume(target, start);
  const connection = new Connection({
    access,
    resume,
    giveUpAfterMs,
    onHole: (hole) => printer.hole(hole),
    onNotice: (text) => output.notice(text),
    onMessage: (message) => {
      if (!isShown(message, output)) return;
      const fits = printer.show(message);
      if (ends !== null && 'target' in message && message.target !== undefined) settle(message.target);
      if (fits) return;
      connection.pause();
      output.drained().then(
        () => connection.resume(),
        (error: unknown) => ended.reject(error),
      );
    },
  });
  /** Strikes a target off once it has been shown to its end, or its log is not the one any more that had that end. */
  const settle = (name: string) => {
    const end = ends?.get(name);
    const seen = resume.position(name);
    if (end === undefined || seen === undefined) return;
    if (seen.epoch !== end.epoch || seen.offset >= end.offset) ends?.delete(name);
    if (ends?.size === 0) ended.resolve(EXIT.done);
  };
  const forget = [
    onSignal(host, 'SIGINT', () => ended.resolve(EXIT.interrupted)),
    onSignal(host, 'SIGTERM', () => ended.resolve(EXIT.terminated)),
  ];
  try {
    await Promise.race([connection.start(), ended.promise]);
    // Nothing to show (all is older than --since, or trimmed): no message will say so.
    if (!isPattern(target)) settle(target);
    return await Promise.race([ended.promise, connection.failed]);
  } finally {
    connection.close();
    for (const each of forget) each();
  }
}

function isShown(message: ServerMessage, output: Output): boolean {
  if (message.type === 'degraded')
    output.notice(`The gateway is degraded (${message.reason}). Output may come late; none is lost.`);
  if (message.type === 'restored') output.notice('The gateway is well again.');
  if (message.type === 'error' && message.offset === undefined) output.notice(message.error);
  return (
    ['lines', 'stdout', 'stderr', 'log', 'started', 'result', 'gap'].includes(message.type) ||
    (message.type === 'error' && message.offset !== undefined)
  );
}
