/**
 * Every error a client can see: its code, what it means, whether a repeat can help, and how each transport shows it.
 * Programs branch on codes; texts may change. `docs/reference/errors.md` is generated from this table.
 */

interface ErrorKind {
  /** What the code means, for the reference. */
  meaning: string;
  /** True if the same request may succeed later, unchanged. */
  retryable: boolean;
  /** HTTP status of an answer with this error. */
  http: number;
  /** WebSocket close code, for errors that end the connection. */
  close?: number;
}

export const ERRORS = {
  bad_message: {
    meaning: 'The message or body is not valid JSON, or a field is missing, unknown in kind or out of bounds.',
    retryable: false,
    http: 400,
  },
  message_too_large: {
    meaning: 'The message or body is larger than the limit.',
    retryable: false,
    http: 413,
    close: 1009,
  },
  unauthenticated: {
    meaning: 'No valid token was presented.',
    retryable: false,
    http: 401,
    close: 4401,
  },
  forbidden: { meaning: 'The subject may not do this.', retryable: false, http: 403, close: 4403 },
  origin_refused: {
    meaning: 'The page that opened the connection is of an Origin that is not allowed.',
    retryable: false,
    http: 403,
  },
  host_refused: {
    meaning: 'The Host header is not a loopback name, on a gateway without authentication.',
    retryable: false,
    http: 421,
  },
  not_found: { meaning: 'There is no such route, execution or target.', retryable: false, http: 404 },
  method_not_allowed: { meaning: 'The route exists, but not with this method.', retryable: false, http: 405 },
  rate_limited: { meaning: 'Too many messages or commands in a short time.', retryable: true, http: 429, close: 4429 },
  too_many_connections: {
    meaning: 'The gateway, or the address, has as many connections as are allowed.',
    retryable: true,
    http: 503,
  },
  too_many_subscriptions: {
    meaning: 'The connection has as many subscriptions as are allowed.',
    retryable: false,
    http: 400,
  },
  id_reused: {
    meaning: 'The idempotency id was used before, for the same target, with another command.',
    retryable: false,
    http: 409,
  },
  queue_full: { meaning: 'The target has as many waiting commands as are allowed.', retryable: true, http: 429 },
  too_many_pending: {
    meaning: 'Too many targets have waiting commands; the installation needs more runners.',
    retryable: true,
    http: 503,
  },
  no_script: { meaning: 'No control script is configured.', retryable: false, http: 501 },
  no_runner: { meaning: 'No runner has been seen for a minute.', retryable: true, http: 503 },
  nothing_running: { meaning: 'A kill found nothing running or waiting.', retryable: false, http: 409 },
  already_ended: { meaning: 'A kill named an execution that has ended.', retryable: false, http: 409 },
  unavailable: {
    meaning: 'Redis cannot be reached now; the request was not carried out, or its outcome is unknown (see the text).',
    retryable: true,
    http: 503,
  },
  draining: {
    meaning: 'The gateway is shutting down; connect again to reach another.',
    retryable: true,
    http: 503,
    close: 1012,
  },
  conflict: {
    meaning: 'The resource was changed by somebody else meanwhile, or the change would contradict another resource.',
    retryable: false,
    http: 409,
  },
  expired: {
    meaning: 'The resourceVersion is too old to go on from, or of a lost store: list again, and watch from there.',
    retryable: false,
    http: 410,
  },
  bad_resource: {
    meaning: 'The resource does not fit its schema, or asks for what cannot be; `issues` lists each problem.',
    retryable: false,
    http: 422,
  },
  history_trimmed: { meaning: 'Output older than the history bounds was asked for.', retryable: false, http: 410 },
  command_not_allowed: {
    meaning: "The verb is not in the runner's list of allowed verbs.",
    retryable: false,
    http: 403,
  },
  cannot_execute: { meaning: 'The control script could not be started.', retryable: false, http: 500 },
  timed_out: { meaning: 'The command ran longer than its timeout and was ended.', retryable: false, http: 500 },
  runner_lost: {
    meaning: 'The runner of the command died or lost touch; how far the command got is unknown.',
    retryable: false,
    http: 500,
  },
  agent_lost: {
    meaning: 'The agent that ran the command lost touch, or cannot tell how it ended; how far it got is unknown.',
    retryable: false,
    http: 500,
  },
  output_limited: {
    meaning: 'The command wrote more than the output bound of one execution; what followed was counted, not kept.',
    retryable: false,
    http: 500,
  },
  node_not_connected: {
    meaning:
      'The node of an agent command is not known, its agent has no stream to any monitor, or it signed off lately.',
    retryable: true,
    http: 502,
  },
  bad_command: {
    meaning: 'The arguments of an agent command are not what its verb needs.',
    retryable: false,
    http: 400,
  },
  agent_refused: {
    meaning: 'The agent does not carry this command out: it is not in its allow-list, or it cannot be run there.',
    retryable: false,
    http: 403,
  },
  internal: {
    meaning: 'A defect of carrierarr. The log of the program has the details.',
    retryable: true,
    http: 500,
    close: 1011,
  },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERRORS;

/** The WebSocket close code of an error that ends the connection; 1011 for others. */
export function closeCodeOf(code: ErrorCode): number {
  const kind: ErrorKind = ERRORS[code];
  return kind.close ?? 1011;
}

/** True if `text` is a code of {@link ERRORS}. */
export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(ERRORS, text);
}

/** One thing that is wrong with a resource. */
export interface Issue {
  /** Where, such as `spec.schedule.windows.0.start`; empty for the whole. */
  path: string;
  /** What was received, shortened; left out where nothing was. */
  value?: string;
  /** What is allowed. */
  message: string;
}

/** An error meant for the client: `message` says what was received and what to do. */
export class ClientError extends Error {
  override name = 'ClientError';
  constructor(
    readonly code: ErrorCode,
    message: string,
    options?: ErrorOptions & { issues?: readonly Issue[] },
  ) {
    super(message, options);
    this.issues = options?.issues;
  }
  /** Every problem of a resource, for `bad_resource`. */
  readonly issues: readonly Issue[] | undefined;
  /** True if the same request may succeed later. */
  get retryable(): boolean {
    return ERRORS[this.code].retryable;
  }
  /** HTTP status for this error. */
  get httpStatus(): number {
    return ERRORS[this.code].http;
  }
}

/** WebSocket close codes the gateway uses, and what a client should do. */
export const CLOSE_CODES = {
  1000: { name: 'normal', meaning: 'The client asked to close.', reconnect: false },
  1001: { name: 'going away', meaning: 'The page or program ended.', reconnect: false },
  1006: {
    name: 'abnormal',
    meaning: 'The connection broke, or a slow client missed the close frame.',
    reconnect: true,
  },
  1009: { name: 'message too large', meaning: 'A message was larger than the limit.', reconnect: false },
  1011: { name: 'internal error', meaning: 'A defect of carrierarr.', reconnect: true },
  1012: {
    name: 'service restart',
    meaning: 'The gateway is shutting down: connect again, after the delay of `migrate` if one came.',
    reconnect: true,
  },
  4401: { name: 'unauthenticated', meaning: 'No valid token in time.', reconnect: false },
  4403: { name: 'forbidden', meaning: 'The subject may not do this.', reconnect: false },
  4429: { name: 'rate limited', meaning: 'The client kept sending far above its limit.', reconnect: true },
} as const satisfies Record<number, { name: string; meaning: string; reconnect: boolean }>;
