/** The agent: announces its machine, says how it is, carries out commands there. */
export { agentSchema, type AgentConfig, validateAgentConfig } from './config.js';

/** All but its settings: loaded when it is used, as gRPC and AMQP cost those who only look at the settings too much memory. */
export const loadAgent = () => import('./program.js');
