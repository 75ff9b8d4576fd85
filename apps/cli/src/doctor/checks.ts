/** All checks, in the order in which their findings are worth reading: what others rest on comes first. */
import { awsEc2 } from './aws/ec2.js';
import { awsEcs } from './aws/ecs.js';
import { awsIdentity } from './aws/identity.js';
import { awsRunInstances } from './aws/run-instances.js';
import { awsRunTask } from './aws/run-task.js';
import type { Check } from './check.js';
import { clock } from './clock.js';
import { dns } from './dns.js';
import { commands } from './fleet/commands.js';
import { leader } from './fleet/leader.js';
import { runners } from './fleet/runners.js';
import { gatewayAccess } from './gateway/access.js';
import { gatewayCertificate } from './gateway/certificate.js';
import { gatewayHealth } from './gateway/health.js';
import { gatewayIdle } from './gateway/idle.js';
import { gatewayWebSocket } from './gateway/websocket.js';
import { rabbitmq } from './rabbitmq.js';
import { redisConnection } from './redis/connection.js';
import { redisFormat } from './redis/format.js';
import { redisLatency } from './redis/latency.js';
import { redisMemory } from './redis/memory.js';
import { redisPermissions } from './redis/permissions.js';
import { redisPersistence } from './redis/persistence.js';
import { redisVersion } from './redis/version.js';

export const CHECKS: readonly Check[] = [
  dns,
  ...[redisConnection, redisVersion, redisMemory, redisPersistence, redisPermissions, redisLatency, redisFormat],
  ...[runners, leader, commands],
  ...[gatewayHealth, gatewayCertificate, gatewayAccess, gatewayWebSocket, gatewayIdle],
  clock,
  rabbitmq,
  ...[awsIdentity, awsEc2, awsEcs, awsRunInstances, awsRunTask],
];
