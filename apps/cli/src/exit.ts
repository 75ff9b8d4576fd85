/**
 * Exit codes, after those of `docker run`: a script's own code is passed on, so ours lie above what scripts use.
 * A usage error is 2, except in `run`, where 2 may be the script's and ours is 125.
 */
export const EXIT = {
  done: 0,
  /** Some of several things failed (`apply`, `delete`, `get` with names), or there are differences (`diff`). */
  partly: 1,
  usage: 2,
  /** carrierarr itself failed: no connection, no permission, a lost runner. */
  ours: 125,
  /** The command could not be run: no script, not an allowed verb, not executable. */
  cannotRun: 126,
  /** Ctrl-C. */
  interrupted: 130,
  /** Whoever read our output has gone, as for a program that SIGPIPE ended. */
  brokenPipe: 141,
  /** SIGTERM. */
  terminated: 143,
} as const;

/** An error for the user: `message` says what was received and what to do, and is shown without a stack. */
export class Failure extends Error {
  override readonly name: string = 'Failure';
  constructor(
    message: string,
    readonly exitCode: number = EXIT.ours,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** What was typed cannot be meant. */
export class UsageError extends Failure {
  override readonly name = 'UsageError';
  constructor(message: string) {
    super(message, EXIT.usage);
  }
}
