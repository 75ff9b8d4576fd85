/** The fleet API: nodes and commands for their agents, as existing clients know it. */
import {
  ClientError,
  fleetJsonOf,
  NODE_TYPES,
  nodeCommandBodySchema,
  nodesQuerySchema,
  nodeSummaryOf,
  type NodeTypeName,
} from '@carrierarr/protocol';
import type { Commands } from '../commands.js';
import { fit, jsonOf, queryOf } from '../http/input.js';
import { type Call, json, jsonText, type Route } from '../http/route.js';
import { shown } from '../problem.js';
import { fleetStatsOf, nodeBodyOf, nodeDetailOf } from './node-bodies.js';
import { NodeCommands } from './node-commands.js';
import type { NodeView, SeenNode } from './node-view.js';

const EXAMPLE = '{"node_id":"gpu-1","type":"DRAIN"}';

export interface FleetRouteDependencies {
  nodes: NodeView;
  commands: Pick<Commands, 'submit'>;
  /** Throws ClientError `rate_limited`. */
  limitWrites: (call: Pick<Call, 'exchange' | 'credential'>) => void;
}

export function fleetRoutes({ nodes, commands, limitWrites }: FleetRouteDependencies): Route[] {
  const nodeCommands = new NodeCommands({ commands, nodes });
  const summaries = (all: readonly SeenNode[]) => all.map((node) => nodeSummaryOf(node.record, node));
  // The same nodes are asked for again and again, by every proxy: as long as they are the same, so is the text.
  const fleetText = remembered((all) => JSON.stringify(fleetJsonOf(summaries(all))));
  const nodesText = remembered((all) => JSON.stringify(all.map(nodeBodyOf)));
  return [
    {
      method: 'GET',
      path: '/api/v1/fleet',
      answer: async () => jsonText(200, fleetText(await nodes.nodes())),
    },
    {
      method: 'GET',
      path: '/api/v1/nodes',
      async answer({ exchange }) {
        const { type } = fit(nodesQuerySchema, queryOf(exchange.query), 'the query');
        const all = await nodes.nodes();
        if (type === undefined || type === '') return jsonText(200, nodesText(all));
        const wanted = nodeTypeOf(type);
        const found = all.filter(({ record }) => (record.registration?.type ?? NODE_TYPES[0]) === wanted);
        return json(200, found.map(nodeBodyOf));
      },
    },
    {
      method: 'GET',
      path: '/api/v1/nodes/{id}',
      async answer({ params }) {
        const id = params.get('id') ?? '';
        const node = await nodes.byName(id);
        if (node === undefined)
          throw new ClientError('not_found', `There is no node ${shown(id)}. See GET /api/v1/nodes.`);
        return json(200, nodeDetailOf(node));
      },
    },
    {
      method: 'GET',
      path: '/api/v1/stats',
      answer: async () => json(200, fleetStatsOf(summaries(await nodes.nodes()))),
    },
    {
      method: 'POST',
      path: '/api/v1/command',
      async answer(call) {
        const { exchange, credential } = call;
        // Existing clients do not say what they send. A page of another origin cannot use that: it was checked before.
        const body = fit(nodeCommandBodySchema, await jsonOf(exchange, EXAMPLE), 'the body');
        limitWrites(call);
        const { address } = exchange.facts;
        return json(200, await nodeCommands.send({ body, subject: credential.subject, address }));
      },
    },
  ];
}

/** `gpu-worker`, `GPU_WORKER` and `NODE_TYPE_GPU_WORKER` are the same. Throws ClientError `bad_message`. */
function nodeTypeOf(text: string): NodeTypeName {
  const name = `NODE_TYPE_${text
    .toUpperCase()
    .replaceAll('-', '_')
    .replace(/^NODE_TYPE_/, '')}`;
  const known = NODE_TYPES.find((type) => type === name);
  if (known !== undefined) return known;
  const types = NODE_TYPES.map((type) => type.slice('NODE_TYPE_'.length).toLowerCase().replaceAll('_', '-'));
  throw new ClientError('bad_message', `Expected \`type\` to be one of ${types.join(', ')}, got ${shown(text)}.`);
}

function remembered(make: (nodes: readonly SeenNode[]) => string): (nodes: readonly SeenNode[]) => string {
  let last: { nodes: readonly SeenNode[]; text: string } | undefined;
  return (nodes) => {
    if (last?.nodes !== nodes) last = { nodes, text: make(nodes) };
    return last.text;
  };
}
