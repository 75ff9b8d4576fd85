/**
 * Logging with pino: JSON lines, or readable ones for a person at a terminal. Whatever is logged, secrets are not: known
 * field names are masked, URLs in errors lose their passwords, and ioredis' errors lose the arguments of the command
 * that failed, which for AUTH are the password.
 */
import { type DestinationStream, type Logger, pino } from 'pino';
import { prettyStream } from './pretty-log.js';
import { redactUrl } from './redact.js';

export type { Logger } from 'pino';

export interface LoggerOptions {
  /** Shown on every line. */
  readonly program: string;
  readonly level?: string;
  /** `auto`: pretty when standard output is a terminal, else json. */
  readonly format?: 'auto' | 'json' | 'pretty';
  /** Where lines go; standard output when left out. */
  readonly destination?: DestinationStream;
}

const SECRET_FIELDS = ['token', 'password', 'authorization', 'access_token', 'accessToken', 'Authorization', 'cookie'];
const REDACTED_PATHS = SECRET_FIELDS.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]);

export function createLogger({ program, level = 'info', format = 'auto', destination }: LoggerOptions): Logger {
  const output = destination ?? pino.destination({ fd: 1, sync: true });
  const isPretty = format === 'pretty' || (format === 'auto' && !destination && process.stdout.isTTY);
  return pino(
    {
      level,
      base: { program },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: serializeError, error: serializeError, url: redactIfText },
      redact: { paths: REDACTED_PATHS, censor: '***' },
    },
    isPretty ? prettyStream(output) : output,
  );
}

function redactIfText(value: unknown): unknown {
  return typeof value === 'string' ? redactUrl(value) : value;
}

const CAUSES_MAX = 5;

/** An error as plain fields, its causes included. Other properties stay out: nobody knows what libraries put there. */
function serializeError(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return redactIfText(error);
  const { code, command } = error as { code?: unknown; command?: { name?: unknown } };
  return {
    type: error.name,
    message: redactUrl(error.message),
    ...(code === undefined ? {} : { code }),
    ...(command?.name === undefined ? {} : { command: command.name }),
    stack: redactUrl(error.stack ?? ''),
    ...(error.cause === undefined || depth >= CAUSES_MAX ? {} : { cause: serializeError(error.cause, depth + 1) }),
  };
}
