/** `docs/reference/agent-protocol.md`: what agents and monitors say to each other, over gRPC and RabbitMQ. */
import { type JsonSchema, jsonSchemas } from '../json-schema.js';
import { cell, textOf, typeOf } from '../schema-types.js';
import { AGENT_EXCHANGES, amqpHeartbeatSchema, amqpRegistrationSchema } from './agent-messages.js';
import { AGENT_FEATURES } from './node-record.js';
import { parseProto, type ProtoEnum, type ProtoField, type ProtoFile, type ProtoMessage } from './proto-text.js';

/** Fields of the protocol that agents in use today speak have numbers below this. */
const FIRST_NEW_NUMBER = 20;
const TIMESTAMP = 'google.protobuf.Timestamp';

const REGISTRATION = {
  ...{ action: 'register', node_id: 'i-0123456789abcdef0', node_type: 'gpu-worker', nebula_ip: '10.42.0.7' },
  ...{ public_ip: '203.0.113.7', region: 'eu-central-1', az: 'eu-central-1a' },
  ...{ capabilities: { gpu: true, gpu_count: 1, gpu_model: 'T4' }, timestamp: '2026-01-02T03:04:05Z' },
};
const HEARTBEAT = {
  ...{ node_id: 'i-0123456789abcdef0', status: 'healthy', services: { nebula: true, ollama: true } },
  resources: {
    ...{ memory_total_mb: 32_000, memory_used_mb: 8_000, cpu_percent: 12.5, models_loaded: ['llama3:8b'] },
    gpus: [{ index: 0, name: 'T4', memory_used: 4_000, memory_total: 16_000, utilization: 35.5, temperature: 61 }],
  },
  timestamp: '2026-01-02T03:04:35Z',
};

/** The whole text, with a newline at its end. `proto` is what the proto file says. */
export function agentReference(proto: string): string {
  const file = parseProto(proto);
  return `# What agents speak

Generated from \`libs/protocol/proto/ec2agent/v1/agent.proto\` and the schemas in \`libs/protocol/src/nodes\`; do not edit. How to run
agents is in [Agents on the workers](../how-to/agents.md), how they get in in [Let agents in](../how-to/let-agents-in.md).

An agent uses gRPC, RabbitMQ, or both. Over RabbitMQ it only says what it is and how it is; commands come over gRPC.

${grpcPart(file)}
${rabbitPart()}`;
}

// --- gRPC ------------------------------------------------------------------------------------------------------------

function grpcPart(file: ProtoFile): string {
  const types = new Set([...file.messages, ...file.enums].map(({ name }) => name));
  const known = reachable(file);
  const link = (type: string) =>
    type.replaceAll(/[\w.]+/g, (word) => (types.has(word) ? `[${word}](#${word.toLowerCase()})` : word));
  const rpcs = file.rpcs.map(
    ({ name, request, response, text }) => `| \`${name}\` | ${link(request)} | ${link(response)} | ${cell(text)} |`,
  );
  return `## gRPC

Service \`${file.service}\` (proto3), by default on port 50051. A token, where one is wanted, is in the metadata of each call:
\`authorization: Bearer TOKEN\`. Monitors also serve \`grpc.health.v1.Health\` and reflection.

An agent calls \`Register\`, opens one \`Connect\` stream, and then sends a status over it and a \`Heartbeat\` as often as the answer to
\`Register\` says. It may ping the connection every 30 s, also without a stream. One that has lost its stream need not register before it opens
another, and is known by the host name in its status then.

*New* is what agents and control planes from before carrierarr neither send nor read. New fields of messages that they know may always be there:
they pass over them. New messages, and what only they lead to, are sent to those alone that have named ${AGENT_FEATURES.map((name) => `\`${name}\``).join(', ')} in
\`features\`: a control plane in its answer to \`Register\`, an agent in \`hello\`. Such an agent takes a command once however often it is sent, streams its
output, and can be told to end it.

| rpc | request | response | meaning |
|---|---|---|---|
${rpcs.join('\n')}

${[...file.messages.map((message) => messageSection(message, known, link)), ...file.enums.map((each) => enumSection(each, known))].join('\n')}`;
}

/** Names of all messages and enums that lead from the service through fields that are not new. */
function reachable({ rpcs, messages }: ProtoFile): Set<string> {
  const found = new Set<string>();
  const visit = (type: string): void => {
    for (const name of type.match(/[\w.]+/g) ?? []) {
      if (found.has(name)) continue;
      found.add(name);
      for (const field of messages.find((message) => message.name === name)?.fields ?? [])
        if (!isNew(field)) visit(field.type);
    }
  };
  for (const { request, response } of rpcs) {
    visit(request);
    visit(response);
  }
  return found;
}

function isNew({ number }: ProtoField): boolean {
  return number >= FIRST_NEW_NUMBER;
}

function messageSection(
  { name, text, fields }: ProtoMessage,
  known: ReadonlySet<string>,
  link: (type: string) => string,
): string {
  const isNewAltogether = !known.has(name);
  const oneof = fields.find((field) => field.oneof !== undefined)?.oneof;
  const about = [isNewAltogether ? '*New.*' : '', text, oneof ? `One of these (\`oneof ${oneof}\`).` : ''];
  const rows = fields.map((field) => {
    const type = link(field.type.replace(TIMESTAMP, 'time'));
    const news = !isNewAltogether && isNew(field) ? 'yes' : '';
    return `| ${field.number} | \`${field.name}\` | ${cell(type)} | ${news} | ${cell(field.text)} |`;
  });
  if (rows.length === 0) return `### ${name}\n${paragraph([...about, 'It has no fields.'])}`;
  return `### ${name}
${paragraph(about)}
| number | field | type | new | meaning |
|---|---|---|---|---|
${rows.join('\n')}
`;
}

function enumSection({ name, text, values }: ProtoEnum, known: ReadonlySet<string>): string {
  const rows = values.map((value) => `| ${value.number} | \`${value.name}\` | ${cell(value.text)} |`);
  return `### ${name}
${paragraph([known.has(name) ? '' : '*New.*', text])}
| number | value | meaning |
|---|---|---|
${rows.join('\n')}
`;
}

/** With an empty line before it; nothing if there is nothing to say. */
function paragraph(parts: readonly string[]): string {
  const said = parts.filter((part) => part !== '').join(' ');
  return said === '' ? '' : `\n${said}\n`;
}

// --- RabbitMQ --------------------------------------------------------------------------------------------------------

function rabbitPart(): string {
  const exchanges = Object.values(AGENT_EXCHANGES).map((exchange) => {
    const [keys, queue] =
      'queue' in exchange
        ? [exchange.keys.map((key) => (key === '' ? '(empty)' : `\`${key}\``)).join(', '), `\`${exchange.queue}\``]
        : ['', 'none: it is reserved'];
    return `| \`${exchange.name}\` | ${exchange.type} | ${keys} | ${queue} |`;
  });
  const { registration, heartbeat } = jsonSchemas(
    { registration: amqpRegistrationSchema, heartbeat: amqpHeartbeatSchema },
    'draft-2020-12',
  );
  return `## RabbitMQ

AMQP 0-9-1, by default in the virtual host \`agents\`. Each monitor that has \`--rabbitmq-url\` declares what is missing of these, with the bindings, and
reads. Exchanges and queues are durable, and queues have no arguments. Agents publish only into what is there.

| exchange | type | routing keys | read from queue |
|---|---|---|---|
${exchanges.join('\n')}

Bodies are JSON (\`application/json\`, persistent). Unknown fields are ignored. What is not required may be left out, or null. A number that no
machine can have counts as the nearest that one can. What cannot be read is rejected without being queued again, and counted
in \`carrierarr_monitor_rabbitmq_messages_total\`.

${bodySection('Registration', `When an agent starts and ends, to \`${AGENT_EXCHANGES.registration.name}\`. A \`deregister\` that is older than the last \`register\` is passed over, and so is a \`register\` that is older than the last \`deregister\`: by \`start_number\` where both have one, else by \`timestamp\`.`, registration, REGISTRATION)}
${bodySection('Heartbeat', `Every 30 s, to \`${AGENT_EXCHANGES.heartbeat.name}\`. One that is not newer than the last \`deregister\` does not bring the node back.`, heartbeat, HEARTBEAT)}`;
}

function bodySection(title: string, about: string, schema: JsonSchema | undefined, example: object): string {
  return `### ${title}

${about}

| field | type | required | meaning |
|---|---|---|---|
${fieldRows(schema ?? {}, '').join('\n')}

\`\`\`json
${JSON.stringify(example)}
\`\`\`
`;
}

/** A row for each field, and below it one for each field within. */
function fieldRows(schema: JsonSchema, path: string): string[] {
  const required = new Set((schema['required'] ?? []) as string[]);
  return Object.entries((schema['properties'] ?? {}) as Record<string, JsonSchema>).flatMap(([name, field]) => {
    const inner = withoutNull(field);
    const isList = inner['type'] === 'array';
    const element = isList ? (inner['items'] as JsonSchema) : inner;
    const isObject = element['properties'] !== undefined;
    const type = isObject ? `object${isList ? '[]' : ''}` : typeOf(inner);
    const here = `${path}${name}`;
    const row = `| \`${here}\` | ${cell(type)} | ${required.has(name) ? 'yes' : ''} | ${cell(textOf(field))} |`;
    return isObject ? [row, ...fieldRows(element, `${here}${isList ? '[]' : ''}.`)] : [row];
  });
}

/** What may be left out may be null, too; the page says so once. */
function withoutNull(schema: JsonSchema): JsonSchema {
  const { type, anyOf: choices } = schema;
  if (Array.isArray(type)) return { ...schema, type: type.find((each) => each !== 'null') };
  if (!Array.isArray(choices)) return schema;
  const others = (choices as JsonSchema[]).filter((choice) => choice['type'] !== 'null');
  const [only] = others;
  return others.length === 1 && only !== undefined ? only : { ...schema, anyOf: others };
}
