/** What checks use of the SDK for ECS; see ec2.ts. */
export { DescribeTaskDefinitionCommand, ECSClient, ListTasksCommand } from '@aws-sdk/client-ecs';
