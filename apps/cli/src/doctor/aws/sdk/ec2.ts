/**
 * What checks use of the SDK for EC2. A package that is no ES module has no names of its own where it is loaded late out of the files that
 * `npm run build` makes; this module has.
 */
export {
  DescribeImagesCommand,
  DescribeInstancesCommand,
  DescribeInstanceStatusCommand,
  EC2Client,
  RunInstancesCommand,
  StartInstancesCommand,
  StopInstancesCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
