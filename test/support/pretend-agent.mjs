/** What pretend agents speak, of the benchmark and of outages alike: the proto file of agents in use today, and what one says of itself. */
import { resolve } from 'node:path';
import { loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const definition = loadSync('ec2agent/v1/agent.proto', {
  ...{ includeDirs: [resolve(import.meta.dirname, '../fixtures/agent-wire')], keepCase: true, longs: Number },
  ...{ enums: String, defaults: false, oneofs: true },
});
/** The client's class, with the service's description. */
export const { AgentControl } = /** @type {any} */ (loadPackageDefinition(definition)).ec2agent.v1;

const running = { state: 'SERVICE_STATE_RUNNING', message: 'ok', uptime_seconds: 60 };

/** @param {number} n which one */
export const registrationOf = (n) => ({
  ...{ node_id: `bench-${n}`, instance_id: `i-bench-${n}`, node_type: 'NODE_TYPE_GPU_WORKER' },
  capabilities: { has_gpu: true, gpu_count: 1 },
});

/** Another one each time. @param {number} n which one */
export const statusOf = (n) => ({
  ...{ node_id: `bench-${n}`, nebula: running, k3s: running, ollama: running, liqo: running },
  resources: {
    cpu_percent: Math.random() * 100,
    memory_used_mb: 8000,
    memory_total_mb: 32000,
    disk_used_mb: 1,
    disk_total_mb: 2,
  },
  gpus: [
    { index: 0, name: 'T4', memory_used_mb: 4000, memory_total_mb: 16000, utilization_percent: 5, temperature_c: 61 },
  ],
  loaded_models: [{ name: 'llama3:8b', size_bytes: 4_700_000_000, currently_loaded: true }],
  ...{ uptime_seconds: Math.floor(performance.now() / 1000), idle_seconds: 42, health: 'HEALTH_STATE_HEALTHY' },
});
