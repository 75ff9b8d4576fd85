# Configuration of scripts/llm-worker.sh: GPU instances that serve models with Ollama.
# shellcheck shell=bash disable=SC2034
# docs/how-to/control-ec2.md lists all variables.

AWS_REGION='eu-central-1'

# An image with NVIDIA's driver.
EC2_WORKER_AMI='ssm:/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id'
EC2_WORKER_INSTANCE_TYPES='g6.xlarge g5.xlarge g4dn.xlarge'
EC2_WORKER_SUBNETS='subnet-0123456789abcdef0 subnet-0fedcba9876543210'
EC2_WORKER_SECURITY_GROUPS='sg-0123456789abcdef0'
EC2_WORKER_ROOT_GIB=80

LLM_WORKER_MODELS='llama3.2:3b'
LLM_WORKER_VOLUME_GIB=100
