/**
 * The gRPC protocol between control plane and agents. An entry of its own (`@carrierarr/protocol/agent-control`), so that
 * only monitors and agents load gRPC. Generated from `proto/ec2agent/v1/agent.proto` by `npm run generate -w
 * @carrierarr/protocol`; a test checks that it is what the proto file makes.
 */
export * from './generated/ec2agent/v1/agent.js';
