/** What IAM says that an identity may do, for what has no dry run. */
import { skip, type Finding, fail, ok } from '../finding.js';
import { type AwsError, isDenied } from './clients.js';

/** One action on one resource, in a request that says this. */
export interface Question {
  readonly action: string;
  readonly resource: string;
  /** Keys of conditions, with what the request has for them. */
  readonly context: Readonly<Record<string, string>>;
}

/** The role or user whose policies are asked: that of a session is its role. Undefined for who has no policies of its own. */
export function policySourceOf(arn: string): string | undefined {
  const session = /^arn:([\w-]+):sts::(\d+):assumed-role\/([^/]+)\/.+$/.exec(arn);
  if (session) return `arn:${session[1]}:iam::${session[2]}:role/${session[3]}`;
  return /^arn:[\w-]+:iam::\d+:(user|role)\/.+$/.test(arn) ? arn : undefined;
}

/** `decision`: IAM's own word for it. */
export function judgeSimulated({ action, resource }: Question, decision: string | undefined, policy: string): Finding {
  if (decision === 'allowed') return ok(`${action} is allowed on ${resource}.`);
  const how = decision === 'explicitDeny' ? 'refused by a policy that denies it' : 'allowed by no policy';
  const advice =
    decision === 'explicitDeny'
      ? 'Find the statement with "Effect": "Deny", in policies of this role, its permissions boundary or the organisation, and take this out of it.'
      : `Allow it to this role: ${policy} has all that is needed. Put your own names in for those in capitals.`;
  return fail(`${action} is ${how}, on ${resource}.`, advice);
}

/** What is said where IAM did not answer: nothing is known, which is no failure of the installation. */
export function couldNotBeChecked(actions: string, error: AwsError): Finding {
  if (isDenied(error)) {
    return skip(
      `${actions} could not be checked: iam:SimulatePrincipalPolicy is refused (${error.name}).`,
      'ECS has no dry run. Allow iam:SimulatePrincipalPolicy to this role for a while and run it again, or see that "provision" and "terminate" of a test target succeed.',
    );
  }
  if (error.name === 'NoSuchEntity' || error.name === 'NoSuchEntityException') {
    return skip(
      `${actions} could not be checked: IAM does not find this role (${error.message}).`,
      'A role with a path cannot be found by its session. See that "provision" and "terminate" of a test target succeed.',
    );
  }
  return skip(
    `${actions} could not be checked: ${error.name}: ${error.message}`,
    'Check the way to IAM: a NetworkPolicy, or a NAT gateway (IAM has no VPC endpoint in most regions).',
  );
}
