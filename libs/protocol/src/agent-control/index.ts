/**
 * The gRPC protocol between control plane and agents. An entry of its own (`@carrierarr/protocol/agent-control`), so that
 * only monitors and agents load gRPC. Generated from `proto/ec2agent/v1/agent.proto` by `npm run generate -w
 * @carrierarr/protocol`; a test checks that it is what the proto file makes.
 */
import { fileURLToPath } from 'node:url';

export * from './generated/ec2agent/v1/agent.js';

/** The proto file, for reflection. It lies beside `src` and `dist`. */
export const AGENT_PROTO = {
  root: fileURLToPath(new URL('../../proto/', import.meta.url)),
  file: 'ec2agent/v1/agent.proto',
};
