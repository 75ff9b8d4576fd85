/** What checks use of the SDK for STS; see ec2.ts. */
export { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
