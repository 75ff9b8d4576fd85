import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { loadSync } from '@grpc/proto-loader';
import { describe, expect, it } from 'vitest';
import { parseProto, type ProtoFile } from '../../../libs/protocol/src/nodes/proto-text.js';

const PROTO = fileURLToPath(new URL('../../../libs/protocol/proto/ec2agent/v1/agent.proto', import.meta.url));
const agent = parseProto(readFileSync(PROTO, 'utf8'));

interface Described {
  name: string;
  number: number;
}
/** What a proto compiler makes of the file. */
interface Definition {
  format?: string;
  type?: { name: string; field?: Described[]; value?: Described[] };
}

const SMALL = `// What the file is about.
syntax = "proto3";

package a.v1;

service Things {
  // Says
  // both.
  rpc Ask(stream Question) returns (Answer);
}

// What is asked.
message Question {
  string id = 1; // of the asker
  // carrierarr: what is
  map<string, Kind> kinds = 20;
  oneof payload {
    repeated b.v1.Other others = 2;
  }
  bool last = 3;
}

message Answer {
}

// Nothing more.
message End {}

enum Kind {
  KIND_UNSPECIFIED = 0;
  KIND_BIG = 1; // larger than | others
}
`;

describe('the text of a proto file', () => {
  it('is read with its comments, those above and those behind', () => {
    expect(parseProto(SMALL)).toEqual<ProtoFile>({
      service: 'a.v1.Things',
      rpcs: [{ name: 'Ask', request: 'stream Question', response: 'Answer', text: 'Says both.' }],
      messages: [
        {
          name: 'Question',
          text: 'What is asked.',
          fields: [
            { name: 'id', number: 1, type: 'string', text: 'of the asker' },
            { name: 'kinds', number: 20, type: 'map<string, Kind>', text: 'what is' },
            { name: 'others', number: 2, type: 'repeated b.v1.Other', text: '', oneof: 'payload' },
            { name: 'last', number: 3, type: 'bool', text: '' },
          ],
        },
        { name: 'Answer', text: '', fields: [] },
        { name: 'End', text: 'Nothing more.', fields: [] },
      ],
      enums: [
        {
          name: 'Kind',
          text: '',
          values: [
            { name: 'KIND_UNSPECIFIED', number: 0, text: '' },
            { name: 'KIND_BIG', number: 1, text: 'larger than | others' },
          ],
        },
      ],
    });
  });

  it.each([
    ['two declarations in a line', 'enum Kind {', 'message Other {} enum Kind {'],
    ['a field without a number', '  bool last = 3;', '  bool last;'],
    ['a field with options', '  bool last = 3;', '  bool last = 3 [deprecated = true];'],
    ['a value of an enum in a message', '  bool last = 3;', '  LAST = 3;'],
    ['an rpc outside of a service', 'package a.v1;', 'rpc Ask(Question) returns (Answer);'],
    ['a word that it does not know', '  KIND_UNSPECIFIED = 0;', '  reserved 4;'],
  ])('is refused with %s, and the line is named', (_, line, instead) => {
    const text = SMALL.replace(line, instead);
    const number = text.split('\n').indexOf(instead) + 1;
    expect(() => parseProto(text)).toThrow(`Expected line ${number} of the proto file to declare one thing`);
  });

  it('of what agents speak is read as a compiler reads it', () => {
    const compiled = Object.values(loadSync(PROTO, { keepCase: true }) as Record<string, Definition>);
    const numbers = (fields: readonly Described[] = []) => fields.map(({ name, number }) => `${name} ${number}`);
    const described = (kind: 'field' | 'value') =>
      Object.fromEntries(
        compiled
          .flatMap(({ type }) => (type?.[kind] ? [[type.name, numbers(type[kind])] as const] : []))
          .filter(([name]) => name !== 'Timestamp'),
      );
    const { messages, enums, service, rpcs } = agent;
    expect(Object.fromEntries(messages.map(({ name, fields }) => [name, numbers(fields)]))).toEqual(described('field'));
    expect(Object.fromEntries(enums.map(({ name, values }) => [name, numbers(values)]))).toEqual(described('value'));
    const definition = loadSync(PROTO, { keepCase: true })[service] as Record<string, { requestStream: boolean }>;
    expect(rpcs.map(({ name, request }) => [name, request.startsWith('stream ')])).toEqual(
      Object.entries(definition).map(([name, { requestStream }]) => [name, requestStream]),
    );
  });
});
