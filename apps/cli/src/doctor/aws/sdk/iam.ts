/** What checks use of the SDK for IAM; see ec2.ts. */
export { IAMClient, SimulatePrincipalPolicyCommand } from '@aws-sdk/client-iam';
