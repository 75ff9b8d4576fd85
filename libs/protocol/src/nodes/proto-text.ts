/**
 * What a proto file of ours says, with its comments, for the reference. Reads the layout that the file has (one declaration a
 * line) and refuses any other, so that nothing is left out in silence. Pure.
 */

/** `text`: its comment, in one line; empty for none. */
interface Commented {
  name: string;
  text: string;
}
export interface ProtoField extends Commented {
  number: number;
  /** As written, such as `repeated string`. */
  type: string;
  /** The `oneof` that it is in. */
  oneof?: string;
}
export interface ProtoMessage extends Commented {
  fields: ProtoField[];
}
export interface ProtoEnum extends Commented {
  values: (Commented & { number: number })[];
}
export interface ProtoRpc extends Commented {
  /** As written, such as `stream AgentMessage`. */
  request: string;
  response: string;
}
export interface ProtoFile {
  /** Package and service, such as `ec2agent.v1.AgentControl`. */
  service: string;
  rpcs: ProtoRpc[];
  messages: ProtoMessage[];
  enums: ProtoEnum[];
}

const COMMENT = /^\/\/ ?(.*)$/;
const OUTSIDE = /^(?:syntax = .+;|import ".+";)$/;
const PACKAGE = /^package ([\w.]+);$/;
const BLOCK = /^(service|message|enum|oneof) (\w+) \{$/;
const EMPTY = /^message (\w+) \{\}$/;
const RPC = /^rpc (\w+)\(([\w. ]+)\) returns \(([\w. ]+)\);$/;
const ENUM_VALUE = /^(\w+) = (\d+);(?: \/\/ (.*))?$/;
const FIELD = /^((?:repeated )?(?:map<[\w, ]+>|[\w.]+)) (\w+) = (\d+);(?: \/\/ (.*))?$/;
/** Said of a group of fields: they are not of the protocol that agents in use today speak. The page says so of each. */
const GROUP = /^carrierarr(?:: ?)?/;

/** Throws at the first line that is not as the file is laid out. */
export function parseProto(source: string): ProtoFile {
  const file: ProtoFile = { service: '', rpcs: [], messages: [], enums: [] };
  let packageName = '';
  let oneof: string | undefined;
  let open: { fields: ProtoField[] } | { values: ProtoEnum['values'] } | 'service' | undefined;
  let above: string[] = [];

  for (const [index, raw] of source.split('\n').entries()) {
    const line = raw.trim();
    const comment = COMMENT.exec(line);
    if (comment) {
      above.push((comment[1] ?? '').replace(GROUP, ''));
      continue;
    }
    const before = above.join(' ').trim();
    above = [];
    const block = BLOCK.exec(line);
    const [, name = ''] = PACKAGE.exec(line) ?? [];
    const [, empty = ''] = EMPTY.exec(line) ?? [];
    if (line === '' || OUTSIDE.test(line)) continue;
    if (name !== '') packageName = name;
    else if (empty !== '' && open === undefined) file.messages.push({ name: empty, text: before, fields: [] });
    else if (block) {
      const [, kind, title = ''] = block;
      if (kind === 'oneof') oneof = title;
      else if (kind === 'service') {
        file.service = `${packageName}.${title}`;
        open = 'service';
      } else if (kind === 'enum') {
        open = { values: [] };
        file.enums.push({ name: title, text: before, values: open.values });
      } else {
        open = { fields: [] };
        file.messages.push({ name: title, text: before, fields: open.fields });
      }
    } else if (line === '}') {
      if (oneof !== undefined) oneof = undefined;
      else open = undefined;
    } else if (!declare(line, before)) {
      throw new Error(
        `Expected line ${index + 1} of the proto file to declare one thing, got ${JSON.stringify(line)}. Teach proto-text.ts to read it.`,
      );
    }
  }
  return file;

  /** False if the line is nothing that stands in the block that is open. */
  function declare(line: string, before: string): boolean {
    if (open === undefined) return false;
    if (open === 'service') {
      const [, name, request = '', response = ''] = RPC.exec(line) ?? [];
      if (name === undefined) return false;
      file.rpcs.push({ name, request, response, text: before });
    } else if ('values' in open) {
      const [, name, number, after = ''] = ENUM_VALUE.exec(line) ?? [];
      if (name === undefined) return false;
      open.values.push({ name, number: Number(number), text: after || before });
    } else {
      const [, type = '', name, number, after = ''] = FIELD.exec(line) ?? [];
      if (name === undefined) return false;
      const text = [before, after].filter((part) => part !== '').join(' ');
      open.fields.push({ name, number: Number(number), type, text, ...(oneof !== undefined && { oneof }) });
    }
    return true;
  }
}
