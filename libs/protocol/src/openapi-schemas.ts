/** What an operation of the OpenAPI document is, and the schemas that operations name. */
import { z } from 'zod';
import type { ErrorCode } from './errors.js';
import {
  acceptedBodySchema,
  commandBodySchema,
  dryRunBodySchema,
  errorBodySchema,
  executionsBodySchema,
  observedBodySchema,
  orphansBodySchema,
  planBodySchema,
  resourceEventsBodySchema,
  targetsBodySchema,
  watchLineSchema,
  workerListSchema,
  workerPoolListSchema,
  workerPoolStatusBodySchema,
  workerStatusBodySchema,
} from './http.js';
import {
  fleetBodySchema,
  fleetStatsSchema,
  nodeBodySchema,
  nodeCommandBodySchema,
  nodeCommandSentSchema,
  nodeDetailBodySchema,
  nodesBodySchema,
  nodeSummaryJsonSchema,
} from './nodes/fleet-http.js';
import { executionSchema, targetStateSchema } from './records.js';
import {
  conditionSchema,
  givenCommandSchema,
  metadataSchema,
  resourceEventSchema,
  scheduleSchema,
  workerManifestSchema,
  workerPoolManifestSchema,
  workerPoolResourceSchema,
  workerPoolSpecSchema,
  workerResourceSchema,
  workerSpecSchema,
} from './resources.js';
import { seenWorkerSchema, sourceReportSchema, statusDocumentSchema, workerStatusSchema } from './worker-status.js';

export const SCHEMAS = {
  Command: commandBodySchema,
  Accepted: acceptedBodySchema,
  Killed: z.object({
    execution_id: z.string(),
    target: z.string(),
    state: z.enum(['killing', 'cancelled']).meta({
      description: '`killing`: it runs, and its runner is told. `cancelled`: it was waiting, and will not start.',
    }),
  }),
  Execution: executionSchema,
  Executions: executionsBodySchema,
  Target: targetStateSchema,
  Targets: targetsBodySchema,
  WorkerStatus: workerStatusSchema,
  Status: statusDocumentSchema,
  SeenWorker: seenWorkerSchema,
  SourceReport: sourceReportSchema,
  Observed: observedBodySchema,
  Orphans: orphansBodySchema,
  Metadata: metadataSchema,
  Condition: conditionSchema,
  Schedule: scheduleSchema,
  WorkerSpec: workerSpecSchema,
  WorkerPoolSpec: workerPoolSpecSchema,
  GivenCommand: givenCommandSchema,
  ResourceEvent: resourceEventSchema,
  Worker: workerResourceSchema,
  WorkerList: workerListSchema,
  WorkerManifest: workerManifestSchema,
  WorkerResourceStatus: workerStatusBodySchema,
  WorkerPool: workerPoolResourceSchema,
  WorkerPoolList: workerPoolListSchema,
  WorkerPoolManifest: workerPoolManifestSchema,
  WorkerPoolStatus: workerPoolStatusBodySchema,
  MergePatch: z.looseObject({}).meta({ description: 'Parts of the resource; null removes a field (RFC 7396).' }),
  Manifests: z
    .union([
      z.discriminatedUnion('kind', [workerManifestSchema, workerPoolManifestSchema]),
      z.array(z.discriminatedUnion('kind', [workerManifestSchema, workerPoolManifestSchema])),
    ])
    .meta({ description: 'One manifest, or a list of them.' }),
  WatchLine: watchLineSchema,
  ResourceEvents: resourceEventsBodySchema,
  Plan: planBodySchema,
  DryRun: dryRunBodySchema,
  Fleet: fleetBodySchema,
  NodeSummary: nodeSummaryJsonSchema,
  FleetStats: fleetStatsSchema,
  Node: nodeBodySchema,
  Nodes: nodesBodySchema,
  NodeDetail: nodeDetailBodySchema,
  NodeCommand: nodeCommandBodySchema,
  NodeCommandSent: nodeCommandSentSchema,
  Health: z.object({ status: z.literal('healthy'), clients: z.int().meta({ description: 'WebSocket clients.' }) }),
  Readiness: z.object({
    ready: z.boolean(),
    draining: z.boolean(),
    checks: z.record(z.string(), z.object({ ok: z.boolean(), detail: z.string(), since: z.iso.datetime() })),
  }),
  Version: z.object({ version: z.string() }),
  Error: errorBodySchema,
} satisfies Record<string, z.ZodType>;
export type SchemaName = keyof typeof SCHEMAS;

/** An answer's body: a schema's name as JSON, or text of other types. */
export type Body = SchemaName | Readonly<Record<string, string>>;

export interface Operation {
  method: 'get' | 'post' | 'put' | 'patch' | 'delete';
  path: string;
  id: string;
  summary: string;
  description?: string;
  /** Needs no token. */
  isOpen?: boolean;
  /** Schema and description of each part of the path. */
  params?: Readonly<Record<string, z.ZodType>>;
  query?: z.ZodType;
  body?: SchemaName;
  /** Default: JSON. */
  bodyTypes?: readonly string[];
  answers: Readonly<Record<number, readonly [description: string, ...bodies: Body[]]>>;
  headers?: Readonly<Record<string, string>>;
  /** Beside those of every route. */
  errors?: readonly ErrorCode[];
}
