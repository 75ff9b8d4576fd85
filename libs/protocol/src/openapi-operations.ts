/** The HTTP routes, as the OpenAPI document tells of them. */
import { z } from 'zod';
import {
  deleteQuerySchema,
  executionsQuerySchema,
  targetsQuerySchema,
  outputQuerySchema,
  putWorkerQuerySchema,
  resourcesQuerySchema,
  statusQuerySchema,
} from './http.js';
import { targetSchema } from './names.js';
import { nodesQuerySchema } from './nodes/fleet-http.js';
import { RESOURCE_PLURALS, resourceNameSchema, type ResourceKind } from './resources.js';
import type { Operation } from './openapi-schemas.js';

const executionId = z.string().meta({ description: 'Id of an execution.' });
const MANIFEST_TYPES = ['application/json', 'application/yaml'] as const;

/** What there is for each kind of resource alike. */
function resourceOperations(kind: ResourceKind): Operation[] {
  const path = `/api/v1/${RESOURCE_PLURALS[kind]}`;
  const one = { path: `${path}/{name}`, params: { name: resourceNameSchema } };
  const isWorker = kind === 'Worker';
  return [
    {
      ...{ method: 'get', path, id: `list${kind}s` },
      summary: `All ${kind} resources by name; with \`watch=true\` also what changes about them.`,
      description:
        'A watch is JSON lines, each a `WatchLine`. A BOOKMARK now and then says up to where it is complete, so that it ' +
        'can be resumed there with `resourceVersion`, at any gateway. The last line of a watch that the gateway ends is an ERROR.',
      query: resourcesQuerySchema,
      answers: {
        200: [
          'The list. With `Accept: application/yaml` as YAML; with `watch=true` as JSON lines.',
          `${kind}List`,
          { 'application/x-ndjson': 'A `WatchLine` a line.' },
        ],
      },
      errors: ['expired', 'too_many_connections'],
    },
    {
      ...{ method: 'get', ...one, id: `get${kind}` },
      summary: `One ${kind}.`,
      answers: { 200: ['The resource. With `Accept: application/yaml` as YAML.', kind] },
      errors: ['not_found'],
    },
    {
      ...{ method: 'put', ...one, id: `put${kind}` },
      summary: `Creates a ${kind}, or replaces its labels and spec.`,
      description:
        'What GET answers is accepted: `status` and metadata of the server are left aside. With `If-Match`, or ' +
        '`metadata.resourceVersion` in the body, it is written only if nothing was written since that version; `If-None-Match: *` ' +
        'only creates.' +
        (isWorker ? ' Of a Worker that a pool made only `paused` can be changed: change the pool.' : ''),
      ...(isWorker && { query: putWorkerQuerySchema }),
      body: `${kind}Manifest`,
      bodyTypes: MANIFEST_TYPES,
      answers: { 200: ['Replaced, or the same already.', kind], 201: ['Created.', kind] },
      errors: ['message_too_large', 'conflict', 'bad_resource'],
    },
    {
      ...{ method: 'patch', ...one, id: `patch${kind}` },
      summary: `Changes parts of a ${kind}, by a JSON merge patch.`,
      description: 'Without a version it is tried again when somebody else writes at the same time.',
      body: 'MergePatch',
      bodyTypes: ['application/merge-patch+json', 'application/json'],
      answers: { 200: ['Changed, or the same already.', kind] },
      errors: ['not_found', 'message_too_large', 'conflict', 'bad_resource'],
    },
    {
      ...{ method: 'delete', ...one, id: `delete${kind}` },
      summary: isWorker ? 'Lets a Worker go, and terminates its machine.' : 'Lets a WorkerPool go, with its Workers.',
      query: deleteQuerySchema,
      answers: { 202: ['It is marked; it goes when its finalizers are done.', kind], 200: ['It is gone.', kind] },
      errors: ['not_found', 'conflict'],
    },
    {
      ...{ method: 'get', path: `${one.path}/status`, params: one.params, id: `get${kind}Status` },
      summary: 'How far the reconciler has got with it.',
      answers: {
        200: [
          'The status; `{}` while it has not been looked at.',
          isWorker ? 'WorkerResourceStatus' : 'WorkerPoolStatus',
        ],
      },
      errors: ['not_found'],
    },
    {
      ...{ method: 'get', path: `${one.path}/plan`, params: one.params, id: `plan${kind}` },
      summary: 'What the reconciler would do about it now. Nothing is done.',
      answers: { 200: ['The plan.', 'Plan'] },
      errors: ['not_found'],
    },
    {
      ...{ method: 'get', path: `${one.path}/events`, params: one.params, id: `list${kind}Events` },
      summary: 'What happened to it, kept for a week.',
      answers: { 200: ['The events.', 'ResourceEvents'] },
      errors: ['not_found'],
    },
  ];
}

/** Every HTTP route of a gateway. */
export const OPERATIONS: readonly Operation[] = [
  {
    ...{ method: 'get', path: '/health', id: 'health', isOpen: true },
    summary: 'Whether the gateway lives.',
    answers: { 200: ['It does.', 'Health'] },
  },
  {
    ...{ method: 'get', path: '/ready', id: 'ready', isOpen: true },
    summary:
      'Whether the gateway can do its job now: Redis answers, output arrives, and it is not shutting down. With `--ops-addr` only there.',
    answers: { 200: ['It can.', 'Readiness'], 503: ['It cannot; the checks say why.', 'Readiness'] },
  },
  {
    ...{ method: 'get', path: '/metrics', id: 'metrics', isOpen: true },
    summary: 'Metrics in the format of Prometheus. With `--ops-addr` only there.',
    answers: { 200: ['All of them.', { 'text/plain': 'Prometheus text format.' }] },
  },
  {
    ...{ method: 'get', path: '/version', id: 'version', isOpen: true },
    summary: 'Which version runs.',
    answers: { 200: ['The version.', 'Version'] },
  },
  {
    ...{ method: 'get', path: '/', id: 'page', isOpen: true },
    summary: 'The page given by `--page`, if one is.',
    answers: { 200: ['The page.', { 'text/html': 'HTML.' }] },
    errors: ['not_found'],
  },
  {
    ...{ method: 'get', path: '/api/status', id: 'status' },
    summary: 'What monitors know of the workers.',
    description: 'While Redis is away, what was known before, as old as `timestamp` and `observed_at` say.',
    query: statusQuerySchema,
    answers: { 200: ['All workers; none is an empty list.', 'Status'] },
  },
  {
    ...{ method: 'get', path: '/api/v1/observed', id: 'observed' },
    summary: 'What monitors know of the workers and how fresh that is, and of each source.',
    answers: { 200: ['All workers, vanished ones too.', 'Observed'] },
  },
  {
    ...{ method: 'get', path: '/api/v1/orphans', id: 'orphans' },
    summary: 'Machines that are tagged as ours and belong to no Worker, and what becomes of each.',
    description: 'As the leading monitor saw it after its last complete poll.',
    answers: { 200: ['None is an empty list.', 'Orphans'] },
  },
  ...resourceOperations('Worker'),
  ...resourceOperations('WorkerPool'),
  {
    ...{ method: 'post', path: '/api/v1/plan', id: 'dryRun' },
    summary: 'What writing manifests would change, and what the reconciler would then do. Nothing is written.',
    body: 'Manifests',
    bodyTypes: MANIFEST_TYPES,
    answers: { 200: ['One item for each manifest.', 'DryRun'] },
    errors: ['message_too_large', 'conflict', 'bad_resource'],
  },
  {
    ...{ method: 'post', path: '/api/v1/targets/{target}/commands', id: 'submitCommand' },
    summary: 'Accepts a command for a target, or kills what runs there.',
    description:
      'An accepted command runs at most once, after those accepted before it. With an `id` the request can be repeated ' +
      'without harm. `kill` is no command of the script: it ends what runs on the target, else cancels what is next. The ' +
      'verbs of agents go to the agent when the target is a node; the answer then names the target that the node has.',
    params: { target: targetSchema },
    body: 'Command',
    answers: { 202: ['Accepted, or the kill is on its way.', 'Accepted'] },
    errors: [
      ...(['message_too_large', 'id_reused', 'queue_full', 'too_many_pending'] as const),
      ...(['no_script', 'no_runner', 'nothing_running', 'bad_command', 'node_not_connected'] as const),
    ],
  },
  {
    ...{ method: 'get', path: '/api/v1/targets', id: 'listTargets' },
    summary: 'Known targets, those active last first; at most 1000.',
    query: targetsQuerySchema,
    answers: { 200: ['The targets.', 'Targets'] },
  },
  {
    ...{ method: 'get', path: '/api/v1/executions', id: 'listExecutions' },
    summary: 'Executions, the newest first.',
    query: executionsQuerySchema,
    answers: { 200: ['A page of them.', 'Executions'] },
    errors: ['not_found'],
  },
  {
    ...{ method: 'get', path: '/api/v1/executions/{id}', id: 'getExecution' },
    summary: 'One execution.',
    params: { id: executionId },
    answers: { 200: ['The execution.', 'Execution'] },
    errors: ['not_found'],
  },
  {
    ...{ method: 'delete', path: '/api/v1/executions/{id}', id: 'killExecution' },
    summary: 'Kills an execution.',
    params: { id: executionId },
    answers: { 202: ['The kill is on its way, or the command was cancelled before it began.', 'Killed'] },
    errors: ['not_found', 'already_ended'],
  },
  {
    ...{ method: 'get', path: '/api/v1/executions/{id}/output', id: 'getOutput' },
    summary: 'What an execution wrote.',
    description:
      'As text: the lines alone, standard output and error in order of arrival. As JSON: one message of `/ws` a line, ' +
      'with offsets; the last line is the `result`, or `{"type":"end"}` with the position reached if the output stops ' +
      'before (an empty line now and then shows that a quiet stream is alive). An answer that is cut off is not complete.',
    params: { id: executionId },
    query: outputQuerySchema,
    answers: {
      200: ['The output.', { 'text/plain': 'Lines.', 'application/x-ndjson': 'A JSON object a line (`format=json`).' }],
    },
    headers: { 'X-Carrierarr-Gap': 'Text only. What is missing before the first line: `<first>-<last> <reason>`.' },
    errors: ['not_found', 'history_trimmed', 'too_many_connections'],
  },
  {
    ...{ method: 'get', path: '/api/v1/fleet', id: 'getFleet' },
    summary: 'All nodes (machines with an agent) and their sums, as `GetFleetStatus` has them over gRPC.',
    description: 'Proto JSON with the names of the proto file and every default; 64-bit integers are texts.',
    answers: { 200: ['The fleet.', 'Fleet'] },
  },
  {
    ...{ method: 'get', path: '/api/v1/nodes', id: 'listNodes' },
    summary: 'All nodes by name.',
    description: 'While Redis is away, what was known before, for a minute.',
    query: nodesQuerySchema,
    answers: { 200: ['The nodes; none is an empty list.', 'Nodes'] },
  },
  {
    ...{ method: 'get', path: '/api/v1/nodes/{id}', id: 'getNode' },
    summary: 'One node, by its host name or its instance id.',
    params: { id: z.string().meta({ description: 'Any name of the node.' }) },
    answers: { 200: ['The node.', 'NodeDetail'] },
    errors: ['not_found'],
  },
  {
    ...{ method: 'get', path: '/api/v1/stats', id: 'getFleetStats' },
    summary: 'How many nodes there are, by what they say.',
    answers: { 200: ['The sums.', 'FleetStats'] },
  },
  {
    ...{ method: 'post', path: '/api/v1/command', id: 'commandNode' },
    summary: 'Has the agent of a node, or of every node that is connected, carry out a command.',
    description:
      'It becomes an execution like any other: see `/api/v1/executions/{id}` and its output. The body is read as JSON ' +
      'whatever its content type. Of a broadcast, `command_id` is the `client_id` of each execution.',
    body: 'NodeCommand',
    answers: { 200: ['Accepted.', 'NodeCommandSent'] },
    errors: [
      ...(['bad_command', 'message_too_large', 'node_not_connected', 'queue_full', 'too_many_pending'] as const),
      'no_runner',
    ],
  },
];

/** The document for a version of carrierarr. */
