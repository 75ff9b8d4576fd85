/** IAM: form fields in, XML out, in the shapes of STS. */
import type { FakeAwsError, Faults } from './faults.js';

const NAMESPACE = 'xmlns="https://iam.amazonaws.com/doc/2010-05-08/"';

/** What the policies of any role come to: everything, but what the test says otherwise. */
export function simulated(fields: URLSearchParams, { decisions }: Faults): string {
  const action = fields.get('ActionNames.member.1') ?? '';
  const resource = fields.get('ResourceArns.member.1') ?? '*';
  const decision = decisions.get(action) ?? 'allowed';
  const result =
    `<EvalActionName>${action}</EvalActionName><EvalResourceName>${resource}</EvalResourceName>` +
    `<EvalDecision>${decision}</EvalDecision>`;
  return (
    `<SimulatePrincipalPolicyResponse ${NAMESPACE}><SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated>` +
    `<EvaluationResults><member>${result}</member></EvaluationResults></SimulatePrincipalPolicyResult>` +
    '<ResponseMetadata><RequestId>fake</RequestId></ResponseMetadata></SimulatePrincipalPolicyResponse>'
  );
}

export function iamError({ code, message }: FakeAwsError): string {
  const error = `<Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error>`;
  return `<ErrorResponse ${NAMESPACE}>${error}<RequestId>fake</RequestId></ErrorResponse>`;
}
