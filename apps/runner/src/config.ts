/** Settings of a runner. Durations are in ms and sizes in bytes once read; `--help` shows their units. */
import { redactionSchema } from '@carrierarr/execution/secrets';
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import {
  ConfigError,
  type ConfigValues,
  defineSchema,
  formats,
  historySchema,
  logSchema,
  opsSchema,
  redisSchema,
} from '@carrierarr/platform';

const HOUR = '1h';
const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;
const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
const TiB = 1024 * GiB;

/** What a runner needs beside Redis, logs and its own HTTP port; `carrierarr up` has those once. */
export const executionSchema = defineSchema({
  script: {
    doc: 'The control script: run as SCRIPT COMMAND ARGS... for each command. Needed to run commands.',
    format: formats.filePath,
    default: null,
  },
  concurrency: {
    doc: 'Commands this runner runs at once; one target never has two.',
    format: formats.intBetween(1, 10_000),
    default: 32,
  },
  runnerId: {
    doc:
      'Name of this runner. By default the host name and a random part. A name that stays the same over restarts, and ' +
      'that no second process has, lets a restarted runner free its targets at once.',
    format: formats.textMatching(/^[A-Za-z0-9._-]{1,128}$/, '1 to 128 letters, digits, dots, dashes or underscores'),
    default: null,
  },
  allowedCommands: {
    doc: 'The only commands that may run, separated by commas; empty for all.',
    format: formats.list,
    default: [],
  },
  commandTimeout: {
    doc: 'A command that names no timeout is ended after this long.',
    format: formats.durationBetween(1000, 30 * day),
    default: HOUR,
  },
  commandTimeoutMax: {
    doc: 'Longest timeout a command may ask for.',
    format: formats.durationBetween(1000, 30 * day),
    default: '24h',
  },
  killGrace: {
    doc: 'Between SIGTERM and SIGKILL when a command is ended.',
    format: formats.durationBetween(0, 10 * minute),
    default: '10s',
  },
  shutdownGrace: {
    doc: 'How long a runner that is told to stop lets its commands go on before it ends them.',
    format: formats.durationBetween(0, 7 * day),
    default: HOUR,
  },
  redisOutageGrace: {
    doc:
      'Commands go on for this long while Redis cannot be reached, then they are ended. A target whose runner was lost ' +
      'stays closed for about as long. The same on all runners.',
    format: formats.durationBetween(5000, day),
    default: '35s',
  },
  agentOutageGrace: {
    doc:
      'A command on an agent goes on for this long while no monitor can reach the agent; then the agent ends it, and ' +
      'it counts as lost. The same on all runners.',
    format: formats.durationBetween(5000, day),
    default: '60s',
  },
  maxLineBytes: {
    doc: 'Longer lines of output are cut, with a mark.',
    format: formats.bytesBetween(KiB, 16 * MiB),
    default: '256KiB',
  },
  spoolBytes: {
    doc: 'Output of one command that is held while Redis is slow or away; above it the script has to wait.',
    format: formats.bytesBetween(64 * KiB, GiB),
    default: '8MiB',
  },
  spoolTotalBytes: {
    doc: 'The same for all commands of this runner together.',
    format: formats.bytesBetween(64 * KiB, 64 * GiB),
    default: '64MiB',
  },
  outputBytesMax: {
    doc: 'Output of one command that is kept; what it writes after that is only counted.',
    format: formats.bytesBetween(KiB, TiB),
    default: '1GiB',
  },
  ...redactionSchema,
  historyTotalBytes: {
    doc: 'Bytes of output kept for all targets together; the least recently active ones lose theirs first.',
    format: formats.bytesBetween(MiB, 64 * TiB),
    default: '1GiB',
  },
  ...historySchema,
});

export const runnerSchema = defineSchema({
  ...executionSchema,
  withoutScript: {
    doc: 'Run commands for agents only; those for a script are refused.',
    format: formats.boolean,
    default: false,
  },
  ...redisSchema,
  ...logSchema,
  ...opsSchema,
});

/** The settings {@link createRunner} reads. */
export type RunnerConfig = ConfigValues<typeof executionSchema>;

/**
 * Throws {@link ConfigError} unless a runner by itself is told either its script or to do without: one that was forgotten
 * would refuse what others could run.
 */
export function validateRunnerConfig({ script, withoutScript }: ConfigValues<typeof runnerSchema>): void {
  if ((script === null) === withoutScript) return;
  const message = withoutScript
    ? 'Both `--script` (CARRIERARR_SCRIPT) and `--without-script` are set. Keep one of them.'
    : 'Expected `--script` (CARRIERARR_SCRIPT) to name the control script, got nothing. ' +
      'For a runner that runs commands for agents only, give `--without-script`.';
  throw new ConfigError('carrierarr runner', [{ key: 'script', message }]);
}

/** A name for a runner that was given none: new at each start, so nobody waits for it to come back. */
export function randomRunnerId(): string {
  const host = hostname()
    .replaceAll(/[^A-Za-z0-9._-]/g, '-')
    .slice(0, 100);
  return `${host}-${randomBytes(4).toString('hex')}`;
}
