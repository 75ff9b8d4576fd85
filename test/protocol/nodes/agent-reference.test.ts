import { readFileSync } from 'node:fs';
import { amqpHeartbeatSchema, amqpRegistrationSchema } from '@carrierarr/protocol';
import { expect, it } from 'vitest';
import { parseProto, type ProtoFile } from '../../../libs/protocol/src/nodes/proto-text.js';

const read = (path: string) => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');
const page = read('docs/reference/agent-protocol.md');

/** The rows of the section with this title. */
const rowsOf = (title: string): string[] =>
  (page.split(`\n### ${title}\n`)[1] ?? '').split('\n#')[0]?.match(/^\| [\d`].*$/gm) ?? [];

it('marks as new what agents in use today do not speak, and nothing else', () => {
  const ours = parseProto(read('libs/protocol/proto/ec2agent/v1/agent.proto'));
  const known = parseProto(read('test/fixtures/agent-wire/ec2agent/v1/agent.proto'));
  const marked: string[] = [];
  const missing: string[] = [];
  const isKnown = (message: string, field: string) => fieldsOf(known, message).includes(field);
  for (const { name, fields } of ours.messages) {
    const isNew = page.includes(`\n### ${name}\n\n*New.*`);
    for (const field of fields) {
      const row = rowsOf(name).find((each) => each.includes(`| \`${field.name}\` |`));
      if (row === undefined) missing.push(`${name}.${field.name}`);
      if (isNew || row?.split(' | ')[3]?.trim() === 'yes') marked.push(`${name}.${field.name}`);
    }
  }
  expect(missing).toEqual([]);
  expect(marked).toEqual(
    ours.messages.flatMap(({ name, fields }) =>
      fields.filter((field) => !isKnown(name, field.name)).map((field) => `${name}.${field.name}`),
    ),
  );
  expect(marked).toContain('Command.argv');
});

function fieldsOf({ messages }: ProtoFile, name: string): string[] {
  return messages.find((message) => message.name === name)?.fields.map((field) => field.name) ?? [];
}

it('leads from every type to the section about it', () => {
  const links = [...page.matchAll(/\]\(#([a-z0-9]+)\)/g)].map(([, anchor]) => anchor);
  const titles = [...page.matchAll(/^### (\w+)$/gm)].map(([, title = '']) => title.toLowerCase());
  expect(links).toContain('nodestatus');
  expect(links.filter((anchor) => !titles.includes(anchor ?? ''))).toEqual([]);
});

it.each([
  ['Registration', amqpRegistrationSchema],
  ['Heartbeat', amqpHeartbeatSchema],
] as const)('gives an example of a body with fields of the table only: %s', (title, schema) => {
  const section = page.split(`\n### ${title}\n`)[1] ?? '';
  const example = JSON.parse(/```json\n(.*)\n```/.exec(section)?.[1] ?? '') as Record<string, unknown>;
  expect(schema.safeParse(example).error).toBeUndefined();
  const rows = rowsOf(title).map((row) => /`(.*?)`/.exec(row)?.[1]);
  expect(pathsOf(example).filter((path) => !rows.includes(path.replace(/^services\..*/, 'services')))).toEqual([]);
});

/** Every field of an object, and of what is in it: `a.b`, and `a[].b` of what is in a list. */
function pathsOf(value: unknown, path = ''): string[] {
  if (Array.isArray(value)) return value.flatMap((each) => pathsOf(each, `${path}[]`));
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, inner]) => {
    const here = path === '' ? name : `${path}.${name}`;
    return [here, ...pathsOf(inner, here)];
  });
}
