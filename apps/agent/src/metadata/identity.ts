/** Who this machine is: what it was told, else what the cloud says, else its host name. */
import { hostname, networkInterfaces } from 'node:os';
import type { Clock, Logger } from '@carrierarr/platform';
import type { AgentConfig } from '../config.js';
import type { CloudIdentity } from './cloud-identity.js';
import { ecsIdentity } from './ecs.js';
import { Imds } from './imds.js';

export interface Identity extends CloudIdentity {
  /** Over gRPC. */
  nodeId: string;
  nebulaIp: string;
}

/** Whom to ask who this machine is. */
export interface Cloud {
  /** Undefined if nobody answers: elsewhere, and also where the service is not there yet. Never rejects. */
  identity(): Promise<CloudIdentity | undefined>;
  /** Present for EC2: it can tell of interruptions. */
  imds: Imds | undefined;
}

/** Undefined: nobody is to be asked. */
export function cloudToAsk(
  { metadata, metadataUrl }: Pick<AgentConfig, 'metadata' | 'metadataUrl'>,
  env: NodeJS.ProcessEnv,
  clock: Clock,
): Cloud | undefined {
  const ecs = env['ECS_CONTAINER_METADATA_URI_V4'];
  if (metadata === 'ecs' || (metadata === 'auto' && ecs !== undefined)) {
    return ecs === undefined ? undefined : { identity: () => ecsIdentity(ecs), imds: undefined };
  }
  if (metadata === 'off') return undefined;
  const imds = new Imds(metadataUrl, clock);
  return { identity: () => imds.identity(), imds };
}

/** What is set wins over what the cloud says. */
export function identityOf(
  config: Pick<AgentConfig, 'nodeId' | 'instanceId' | 'nebulaIp' | 'publicIp' | 'region' | 'az'>,
  cloud: CloudIdentity | undefined,
): Identity {
  return {
    nodeId: config.nodeId ?? hostname(),
    instanceId: config.instanceId ?? cloud?.instanceId ?? '',
    nebulaIp: config.nebulaIp ?? nebulaAddress() ?? '',
    publicIp: config.publicIp ?? cloud?.publicIp ?? '',
    region: config.region ?? cloud?.region ?? '',
    az: config.az ?? cloud?.az ?? '',
  };
}

/** Undefined while the interface is not up: it may come after the agent. */
export function nebulaAddress(): string | undefined {
  return networkInterfaces()['nebula1']?.find(({ family }) => family === 'IPv4')?.address;
}

/** Says who it is. */
export function logIdentity(logger: Logger, identity: Identity): void {
  logger.info({ ...identity }, 'this is the node');
}
