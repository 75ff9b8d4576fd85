/** STS: form fields in, XML out, in shapes of its own. */
import type { FakeAwsError } from './faults.js';

export const FAKE_ARN = 'arn:aws:sts::123456789012:assumed-role/carrierarr-monitor/pod';

export function callerIdentity(): string {
  const result = `<Arn>${FAKE_ARN}</Arn><UserId>AROA:pod</UserId><Account>123456789012</Account>`;
  return (
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">' +
    `<GetCallerIdentityResult>${result}</GetCallerIdentityResult>` +
    '<ResponseMetadata><RequestId>fake</RequestId></ResponseMetadata></GetCallerIdentityResponse>'
  );
}

export function stsError({ code, message }: FakeAwsError): string {
  const error = `<Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error>`;
  return `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">${error}<RequestId>fake</RequestId></ErrorResponse>`;
}
