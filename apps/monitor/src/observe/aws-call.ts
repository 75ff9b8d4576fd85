/**
 * One call of AWS, within the budget. The budget is asked before every try that the SDK makes, not once a call: when AWS
 * throttles, the SDK repeats, and those tries count against the account as well.
 */
import type { Clock } from '@carrierarr/platform';
import type { ApiBudgets, ApiService } from './api-budgets.js';
import type { ObserveMetrics } from './metrics.js';
import { SourceError } from './source.js';

/** What every call needs, whoever makes it. */
export interface AwsCallContext {
  readonly budgets: ApiBudgets;
  readonly metrics: Pick<ObserveMetrics, 'apiCalls' | 'apiWait'>;
  readonly clock: Clock;
}

/** Counts the tries of one poll and knows in whose name they are made. */
export interface Tally {
  readonly service: ApiService;
  readonly region: string;
  readonly signal: AbortSignal;
  calls: number;
}

type Step = (args: unknown) => Promise<unknown>;
/** As much of an SDK command as is needed to get between its tries and the wire. */
interface Interceptable {
  readonly middlewareStack: {
    addRelativeTo(middleware: (next: never) => never, options: { relation: 'after'; toMiddleware: string }): void;
  };
}

/**
 * Makes the SDK take a token of the operation's budget before each try of `command`. Returns the command, to be sent
 * with the tally's signal.
 */
export function budgeted<C>(command: C, operation: string, tally: Tally, context: AwsCallContext): C {
  const { budgets, metrics, clock } = context;
  const { service, region, signal } = tally;
  const labels = { service, operation, region };
  const middleware = (next: Step) => async (args: unknown) => {
    const beganMs = clock.monotonicMs();
    await budgets.of(service, operation, region).take(signal);
    metrics.apiWait.observe(labels, (clock.monotonicMs() - beganMs) / 1000);
    metrics.apiCalls.inc(labels);
    tally.calls += 1;
    return next(args);
  };
  // After the retries, so that it runs in each of them; before the signature, which has a time in it.
  (command as Interceptable).middlewareStack.addRelativeTo(middleware as never, {
    relation: 'after',
    toMiddleware: 'retryMiddleware',
  });
  return command;
}

/** An AWS error as a poll's: what was asked, what came back, and what to do about it. */
export function explainAwsError(error: unknown, operation: string, tally: Tally): Error {
  if (tally.signal.aborted) return tally.signal.reason as Error;
  if (error instanceof SourceError) return error;
  const { name, message } = error instanceof Error ? error : { name: 'Error', message: String(error) };
  const code = name === 'Error' ? '' : `${name}: `;
  const text = `${tally.service}:${operation} in ${tally.region} failed: ${code}${message.replace(/\.$/, '')}.`;
  // A batch is allowed by the action for one.
  const action = `${tally.service}:${operation.replace(/Batch$/, '')}`;
  return new SourceError(`${text} ${adviceFor(name, message, action)}`, {
    calls: tally.calls,
    cause: error,
  });
}

function adviceFor(name: string, message: string, action: string): string {
  if (/UnauthorizedOperation|AccessDenied/i.test(name)) return `Allow the monitor's role the action ${action}.`;
  if (
    /AuthFailure|InvalidClientToken|UnrecognizedClient|ExpiredToken|SignatureDoesNotMatch|InvalidSignature/.test(name)
  )
    return 'AWS does not accept the credentials: check them, and the clock of this machine.';
  if (/CredentialsProviderError|TokenProviderError/.test(name))
    return 'Give the monitor AWS credentials: a role, a profile, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.';
  if (/RequestLimitExceeded|Throttl|TooManyRequests|SlowDown/i.test(name))
    return 'Something else uses up the budget of this account and region; the next poll waits longer.';
  if (/ClusterNotFound/.test(name)) return 'Check --ecs-cluster and the region.';
  if (/ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT|Timeout|ECONNRESET/.test(`${name} ${message}`))
    return 'Check that this machine reaches AWS (network, proxy, AWS_ENDPOINT_URL) and that the region exists.';
  return 'It is tried again; what is known of the workers stays as it is.';
}
