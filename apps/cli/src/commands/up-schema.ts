/** What `carrierarr up` can be told beyond a gateway, a runner and a monitor, and where its defaults differ from theirs. */
import { defineSchema, formats, logSchema, redisSchema } from '@carrierarr/platform/light';

export const upOwnSchema = defineSchema({
  stateDir: {
    doc: 'Folder for the data of the private Redis. By default $XDG_STATE_HOME/carrierarr or ~/.local/state/carrierarr.',
    format: formats.filePath,
    default: null,
  },
  redisUrl: {
    ...redisSchema.redisUrl,
    doc: 'A Redis 7 or Valkey to use instead of a private one. User, password and database number may be part of it.',
    default: null,
  },
  script: {
    doc: 'The control script: run as `SCRIPT COMMAND ARGS...` for each command. Without one, only agents run commands.',
    format: formats.filePath,
    default: null,
  },
  // For one person at a terminal: what is worth reading stands out, and Ctrl-C ends it at once.
  logLevel: { ...logSchema.logLevel, default: 'warn' },
  drainDelay: {
    doc: 'On SIGTERM: how long to be not ready before clients are told to move.',
    format: formats.durationBetween(0, 600_000),
    default: '0s',
  },
  drainSpread: {
    doc: 'On SIGTERM: clients are told to move at random times within this.',
    format: formats.durationBetween(0, 600_000),
    default: '0s',
  },
  shutdownGrace: {
    doc: 'On SIGTERM: how long clients and commands may take to end by themselves. Longer than drain delay and spread together.',
    format: formats.durationBetween(1_000, 3_600_000),
    default: '3s',
  },
});
