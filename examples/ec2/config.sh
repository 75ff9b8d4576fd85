# Configuration of scripts/ec2-worker.sh and scripts/llm-worker.sh: lines of bash, found by EC2_WORKER_CONFIG.
# shellcheck shell=bash disable=SC2034
# docs/how-to/control-ec2.md lists all variables.

AWS_REGION='eu-central-1'

# What to start. The first type in the first subnet that has room is taken.
EC2_WORKER_AMI='ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64'
EC2_WORKER_INSTANCE_TYPES='t3.medium t3a.medium'
EC2_WORKER_SUBNETS='subnet-0123456789abcdef0 subnet-0fedcba9876543210'
EC2_WORKER_SECURITY_GROUPS='sg-0123456789abcdef0'
EC2_WORKER_ROOT_GIB=20

# Cheaper: spot, and on-demand when there is no spot. A spot instance cannot be stopped, only terminated.
EC2_WORKER_MARKET='on-demand'

# Tags beside carrierarr's own, one a line.
EC2_WORKER_TAGS='
  team=research
'
