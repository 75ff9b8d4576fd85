/**
 * The AsyncAPI 3.0 document of `/ws`, from the message schemas. `docs/reference/asyncapi.json` is its text; what the
 * schemas do not say (an example of each message, and what asks for it) stands here.
 */
import type { z } from 'zod';
import { clientMessageSchema, SUBPROTOCOL, TOKEN_SUBPROTOCOL_PREFIX } from './client-messages.js';
import { CLOSE_CODES } from './errors.js';
import { type JsonSchema, jsonSchemas } from './json-schema.js';
import { SERVER_MESSAGES, type ServerMessage } from './server-messages.js';

type ClientType = z.infer<typeof clientMessageSchema>['type'];
type ServerType = ServerMessage['type'];

interface MessageNote {
  examples: readonly object[];
  /** What a client does to get it; absent for what old clients know. */
  askedBy?: string;
}

/** A message as the reference shows it. */
export interface DocumentedMessage extends MessageNote {
  type: string;
  description: string;
  schema: JsonSchema;
  optIn: boolean;
}

const timestamp = '2026-11-22T10:15:00.120Z';
const target = 'worker-1';
const epoch = '19ab3c4d5e6';
const execution_id = '01kanhfj7e5xkz3d9q4r8m2v6t-1c';

const CLIENT_NOTES: Readonly<Record<ClientType, MessageNote>> = {
  command: {
    examples: [
      { type: 'command', command: 'start', target },
      { type: 'command', command: 'provision', args: ['--size', 'large'], target, id: 'provision-42' },
      { type: 'command', command: 'kill', target },
    ],
  },
  subscribe: {
    examples: [
      { type: 'subscribe', target },
      { type: 'subscribe', target: 'gpu-*', tail: 100, batch: true },
      { type: 'subscribe', target, since: { epoch, offset: 1041 } },
      { type: 'subscribe', workers: true },
      { type: 'subscribe', workers: { epoch, version: 311 } },
    ],
  },
  unsubscribe: { examples: [{ type: 'unsubscribe', target: 'gpu-*' }] },
  ping: { examples: [{ type: 'ping' }] },
  authenticate: { examples: [{ type: 'authenticate', token: 'TOKEN' }] },
};

const OFFSETS = 'a `subscribe` with `offsets`, `batch`, `tail`, `since` or `positions`';
const MODERN = `the subprotocol \`${SUBPROTOCOL}\``;
const NOTICES = `a \`subscribe\` with \`notices\`, or ${MODERN}`;

const SERVER_NOTES: Readonly<Record<ServerType, MessageNote>> = {
  stdout: {
    examples: [
      { type: 'stdout', timestamp, target, data: 'booting' },
      { type: 'stdout', timestamp, target, data: 'booting', epoch, offset: 1042, execution_id },
    ],
  },
  stderr: { examples: [{ type: 'stderr', timestamp, target, data: 'warning: disk is 91 % full' }] },
  result: {
    examples: [
      { type: 'result', timestamp, target, exit_code: 0 },
      {
        ...{ type: 'result', timestamp, target, exit_code: 143, outcome: 'killed', signal: 'SIGTERM' },
        ...{ epoch, offset: 1043, execution_id },
      },
    ],
  },
  error: {
    examples: [
      {
        ...{ type: 'error', timestamp, error: 'Nothing is running or waiting on "worker-1".' },
        ...{ code: 'nothing_running', target },
      },
    ],
  },
  status: {
    examples: [
      {
        ...{ type: 'status', timestamp },
        data: `{"workers":[{"id":"i-0a1b","provider":"ec2","state":"running"}],"timestamp":"${timestamp}"}`,
      },
    ],
  },
  pong: { examples: [{ type: 'pong', timestamp }] },
  hello: {
    askedBy: MODERN,
    examples: [
      {
        ...{ type: 'hello', timestamp, gateway: 'gateway-1', version: '0.1.0' },
        limits: { message_bytes: 65_536, subscriptions: 1_000, commands_per_second: 20 },
      },
    ],
  },
  accepted: {
    askedBy: 'a `command` with an `id`',
    examples: [
      { type: 'accepted', timestamp, target, id: 'provision-42', execution_id, position: 0, duplicate: false },
    ],
  },
  subscribed: {
    askedBy: `${OFFSETS}, or ${MODERN}`,
    examples: [
      { type: 'subscribed', timestamp, target, epoch, offset: 1041 },
      { type: 'subscribed', timestamp, target: 'gpu-*' },
    ],
  },
  unsubscribed: { askedBy: 'an `unsubscribe`', examples: [{ type: 'unsubscribed', timestamp, target: 'gpu-*' }] },
  started: {
    askedBy: OFFSETS,
    examples: [
      {
        ...{ type: 'started', timestamp, target, command: 'provision', args: ['--size', 'large'] },
        ...{ subject: 'alice', runner: 'runner-1', epoch, offset: 1041, execution_id },
      },
    ],
  },
  lines: {
    askedBy: 'a `subscribe` with `batch`',
    examples: [
      {
        type: 'lines',
        timestamp,
        target,
        epoch,
        offset: 1042,
        execution_id,
        stream: 'stdout',
        lines: ['booting', 'ready'],
      },
    ],
  },
  log: {
    askedBy: OFFSETS,
    examples: [{ type: 'log', timestamp, target, data: 'output was cut here', epoch, offset: 1042, execution_id }],
  },
  gap: {
    askedBy: OFFSETS,
    examples: [{ type: 'gap', timestamp, target, epoch, from: 1, to: 1041, reason: 'trimmed' }],
  },
  degraded: { askedBy: NOTICES, examples: [{ type: 'degraded', timestamp, reason: 'no answer within 1000 ms' }] },
  restored: { askedBy: NOTICES, examples: [{ type: 'restored', timestamp }] },
  workers: {
    askedBy: 'a `subscribe` with `workers`',
    examples: [
      {
        ...{ type: 'workers', timestamp, epoch, version: 312, full: false },
        workers: [
          {
            ...{ id: 'i-0a1b', name: target, provider: 'ec2', state: 'running', target, mapped_by: 'tag:Name' },
            ...{ source: 'ec2/eu-central-1', version: 312, observed_at: timestamp },
          },
        ],
        removed: ['i-09ff'],
      },
    ],
  },
  migrate: { askedBy: NOTICES, examples: [{ type: 'migrate', timestamp, delay_ms: 2_500, deadline_ms: 25_000 }] },
};

/** Every message of `/ws`, in the order of the reference. */
export function documentedMessages(): { client: DocumentedMessage[]; server: DocumentedMessage[] } {
  const clientSchemas = new Map(clientMessageSchema.options.map((option) => [option.shape.type.value, option]));
  const made = jsonSchemas(
    {
      ...Object.fromEntries<z.ZodType>(clientSchemas),
      ...Object.fromEntries<z.ZodType>(Object.entries(SERVER_MESSAGES).map(([type, { schema }]) => [type, schema])),
    },
    'draft-7',
  );
  const document = (type: ClientType | ServerType, note: MessageNote, optIn: boolean): DocumentedMessage => {
    const { description, ...schema } = made[type] ?? {};
    return { type, description: String(description), schema, optIn, ...note };
  };
  return {
    client: [...clientSchemas.keys()].map((type) => document(type, CLIENT_NOTES[type], false)),
    server: (Object.keys(SERVER_MESSAGES) as ServerType[]).map((type) =>
      document(type, SERVER_NOTES[type], SERVER_MESSAGES[type].optIn),
    ),
  };
}

/** The document for a version of carrierarr. */
export function asyncApiDocument(version: string): JsonSchema {
  const { client, server } = documentedMessages();
  const all = [...client, ...server];
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'carrierarr WebSocket',
      version,
      description:
        'Commands in, live output out. Every message is a JSON object in a text frame; a frame from the gateway may ' +
        'carry several, separated by `\\n`. A gateway ignores fields that it does not know, and so must a client. ' +
        'Messages tagged `opt-in` go only to a client that asked for them.',
      license: { name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' },
    },
    defaultContentType: 'application/json',
    servers: {
      local: {
        host: '127.0.0.1:8090',
        protocol: 'ws',
        description: 'Where a gateway listens unless it is told otherwise.',
        security: [{ $ref: '#/components/securitySchemes/bearer' }, { $ref: '#/components/securitySchemes/query' }],
      },
    },
    channels: {
      ws: {
        address: '/ws',
        description:
          `Offer the subprotocol \`${SUBPROTOCOL}\` to get what is newer than the old protocol. A browser, which cannot ` +
          `set headers, offers \`${TOKEN_SUBPROTOCOL_PREFIX}\` and its token in base64url as a second subprotocol. ` +
          `Close codes: ${Object.entries(CLOSE_CODES)
            .map(([code, { name }]) => `${code} ${name}`)
            .join(', ')}.`,
        messages: Object.fromEntries(all.map(({ type }) => [type, { $ref: `#/components/messages/${type}` }])),
        bindings: { ws: { method: 'GET', bindingVersion: '0.1.0' } },
      },
    },
    operations: {
      fromClient: {
        action: 'receive',
        channel: { $ref: '#/channels/ws' },
        summary: 'What a client may send.',
        messages: references(client),
      },
      toClient: {
        action: 'send',
        channel: { $ref: '#/channels/ws' },
        summary: 'What a gateway sends.',
        messages: references(server),
      },
    },
    components: {
      messages: Object.fromEntries(all.map((message) => [message.type, messageObject(message)])),
      schemas: Object.fromEntries(all.map(({ type, schema }) => [type, schema])),
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', description: 'A token of the tokens file, or a JSON Web Token.' },
        query: { type: 'httpApiKey', in: 'query', name: 'access_token', description: 'The same as a parameter.' },
      },
    },
  };
}

function references(messages: readonly DocumentedMessage[]): JsonSchema[] {
  return messages.map(({ type }) => ({ $ref: `#/channels/ws/messages/${type}` }));
}

function messageObject({ type, description, examples, optIn, askedBy }: DocumentedMessage): JsonSchema {
  return {
    name: type,
    summary: description,
    ...(askedBy !== undefined && { description: `Asked for by ${askedBy}.` }),
    ...(optIn && { tags: [{ name: 'opt-in' }] }),
    payload: { $ref: `#/components/schemas/${type}` },
    examples: examples.map((payload) => ({ payload })),
  };
}
