/** What checks use of the SDK for Systems Manager; see ec2.ts. */
export { GetParameterCommand, SSMClient } from '@aws-sdk/client-ssm';
