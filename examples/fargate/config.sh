# Configuration of scripts/fargate-worker.sh: lines of bash, found by FARGATE_WORKER_CONFIG.
# shellcheck shell=bash disable=SC2034
# docs/how-to/control-fargate.md lists all variables.

AWS_REGION='eu-central-1'

FARGATE_WORKER_CLUSTER='workers'
FARGATE_WORKER_TASK_DEFINITION='worker'
FARGATE_WORKER_SUBNETS='subnet-0123456789abcdef0 subnet-0fedcba9876543210'
FARGATE_WORKER_SECURITY_GROUPS='sg-0123456789abcdef0'

# Cheaper: spot, and on-demand when there is no spot.
FARGATE_WORKER_MARKET='spot'

# In a public subnet a task needs a public address to pull its image.
FARGATE_WORKER_PUBLIC_IP='DISABLED'
