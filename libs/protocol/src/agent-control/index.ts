/**
 * The gRPC protocol between control plane and agents. An entry of its own (`@carrierarr/protocol/agent-control`), so that
 * only monitors and agents load gRPC. Generated from `proto/ec2agent/v1/agent.proto` by `npm run generate -w
 * @carrierarr/protocol`; a test checks that it is what the proto file makes.
 */
import { createRequire } from 'node:module';
import { join } from 'node:path';

export * from './generated/ec2agent/v1/agent.js';

/** The proto file, for reflection. Throws where this package itself is not there, as in the agent of one file. */
export function agentProto(): { root: string; file: string } {
  const file = 'ec2agent/v1/agent.proto';
  const path = createRequire(import.meta.url).resolve(`@carrierarr/protocol/proto/${file}`);
  return { root: join(path, '../../..'), file };
}
