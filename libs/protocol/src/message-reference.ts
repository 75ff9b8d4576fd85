/** `docs/reference/messages.md`: every message of `/ws` as a table of its fields, with examples. */
import { type DocumentedMessage, documentedMessages } from './asyncapi.js';
import type { JsonSchema } from './json-schema.js';
import { cell, textOf, typeOf } from './schema-types.js';

/** The whole text, with a newline at its end. */
export function messageReference(): string {
  const { client, server } = documentedMessages();
  return `# Messages of \`/ws\`

Generated from the schemas in \`libs/protocol/src\`; do not edit. The same for programs: [asyncapi.json](asyncapi.json).

Every message is a JSON object in a text frame. **A frame from the gateway may carry several messages, separated by
\`\\n\`.** Unknown fields are ignored on both sides. A message marked *opt-in* goes only to a client that asked for it; so
does a field whose description says so. What clients of the old protocol know is all that is not marked.

## From client to gateway

${client.map(section).join('\n')}
## From gateway to client

${server.map(section).join('\n')}`;
}

function section({ type, description, schema, examples, optIn, askedBy }: DocumentedMessage): string {
  const asked = optIn ? `*Opt-in*, by ${askedBy ?? ''}. ` : '';
  const required = new Set(schema['required'] as string[]);
  const fields = Object.entries(schema['properties'] as Record<string, JsonSchema>)
    .filter(([name]) => name !== 'type')
    .map(
      ([name, field]) =>
        `| \`${name}\` | ${cell(typeOf(field))} | ${required.has(name) ? 'yes' : ''} | ${cell(textOf(field))} |`,
    );
  const table =
    fields.length === 0 ? '' : `\n| field | type | required | meaning |\n|---|---|---|---|\n${fields.join('\n')}\n`;
  return `### \`${type}\`

${asked}${description}
${table}
\`\`\`json
${examples.map((example) => JSON.stringify(example)).join('\n')}
\`\`\`
`;
}
