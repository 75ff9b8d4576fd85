/** EC2's query protocol: form fields in, XML out. */
import type { Faults } from './faults.js';
import { FakeAwsError } from './faults.js';
import type { FakeInstance, FakeWorld } from './world.js';

const STATE_CODES: Record<string, number> = {
  pending: 0,
  running: 16,
  'shutting-down': 32,
  terminated: 48,
  stopping: 64,
  stopped: 80,
};

/** Changes are only ever tried here: their answers are nobody's business. */
const DRY_RUNS = new Set([
  ...['DescribeInstances', 'DescribeInstanceStatus'],
  ...['StartInstances', 'StopInstances', 'TerminateInstances', 'RunInstances'],
]);

export interface Ec2Call {
  operation: string;
  region: string;
  fields: URLSearchParams;
}

export function answerEc2({ operation, region, fields }: Ec2Call, world: FakeWorld, faults: Faults): string {
  if (fields.get('DryRun') === 'true' && DRY_RUNS.has(operation)) {
    throw new FakeAwsError(412, 'DryRunOperation', 'Request would have succeeded, but DryRun flag is set.');
  }
  const instances = faults.truthful(world.instances(region), ({ id }) => id);
  switch (operation) {
    case 'DescribeInstances': {
      const filters = filtersOf(fields);
      const matching = instances.filter((one) => filters.every((filter) => matches(one, filter)));
      const { page, token } = paged(matching, fields);
      const items = page.map(
        (one) => `<item><reservationId>r-${one.id}</reservationId>${set('instancesSet', [one])}</item>`,
      );
      return document(operation, `<reservationSet>${items.join('')}</reservationSet>${token}`);
    }
    case 'DescribeImages': {
      const id = fields.get('ImageId.1') ?? '';
      const image = `<imageId>${xml(id)}</imageId><rootDeviceName>/dev/xvda</rootDeviceName>`;
      return document(operation, `<imagesSet><item>${image}</item></imagesSet>`);
    }
    case 'DescribeInstanceStatus': {
      const isAll = fields.get('IncludeAllInstances') === 'true';
      const { page, token } = paged(
        instances.filter(({ state }) => isAll || state === 'running'),
        fields,
      );
      return document(operation, `<instanceStatusSet>${page.map(statusXml).join('')}</instanceStatusSet>${token}`);
    }
    default:
      throw new FakeAwsError(400, 'InvalidAction', `The action ${operation} is not valid for this web service.`);
  }
}

export function ec2Error({ code, message }: FakeAwsError): string {
  const error = `<Error><Code>${xml(code)}</Code><Message>${xml(message)}</Message></Error>`;
  return `<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors>${error}</Errors><RequestID>fake</RequestID></Response>`;
}

interface Filter {
  name: string;
  values: string[];
}

function filtersOf(fields: URLSearchParams): Filter[] {
  const filters: Filter[] = [];
  for (let at = 1; fields.has(`Filter.${at}.Name`); at++) {
    const values: string[] = [];
    for (let value = 1; fields.has(`Filter.${at}.Value.${value}`); value++) {
      values.push(fields.get(`Filter.${at}.Value.${value}`) ?? '');
    }
    filters.push({ name: fields.get(`Filter.${at}.Name`) ?? '', values });
  }
  return filters;
}

function matches({ tags = {} }: FakeInstance, { name, values }: Filter): boolean {
  if (!name.startsWith('tag:')) throw new FakeAwsError(400, 'InvalidParameterValue', `The filter '${name}' is invalid`);
  const tag = tags[name.slice('tag:'.length)];
  return tag !== undefined && values.some((value) => wildcard(value).test(tag));
}

function wildcard(pattern: string): RegExp {
  const escaped = pattern.replaceAll(/[.+^${}()|[\]\\]/g, String.raw`\$&`);
  return new RegExp(`^${escaped.replaceAll('*', '.*').replaceAll('?', '.')}$`, 's');
}

/** MaxResults is between 5 and 1000; without it EC2 gives everything. The token is an offset. */
function paged<T>(items: readonly T[], fields: URLSearchParams): { page: T[]; token: string } {
  const size = Number(fields.get('MaxResults') ?? Infinity);
  if (size < 5 || (size > 1000 && Number.isFinite(size))) {
    throw new FakeAwsError(400, 'InvalidParameterValue', `Value ( ${size} ) for parameter maxResults is invalid.`);
  }
  const from = Number(fields.get('NextToken') ?? 0);
  const page = items.slice(from, from + size);
  return { page, token: from + size < items.length ? `<nextToken>${from + size}</nextToken>` : '' };
}

function set(name: string, instances: readonly FakeInstance[]): string {
  return `<${name}>${instances.map((one) => `<item>${instanceXml(one)}</item>`).join('')}</${name}>`;
}

function instanceXml(one: FakeInstance): string {
  const tags = Object.entries(one.tags ?? {}).map(
    ([key, value]) => `<item><key>${xml(key)}</key><value>${xml(value)}</value></item>`,
  );
  const { stateReason: reason } = one;
  return [
    `<instanceId>${one.id}</instanceId>`,
    `<instanceState><code>${STATE_CODES[one.state] ?? 0}</code><name>${one.state}</name></instanceState>`,
    `<reason>${xml(one.transitionReason ?? '')}</reason>`,
    `<instanceType>${one.type ?? 't3.micro'}</instanceType>`,
    `<launchTime>${one.launchTime ?? '2024-06-01T00:00:00.000Z'}</launchTime>`,
    element('ipAddress', one.publicIp),
    element('privateIpAddress', one.privateIp),
    one.isSpot ? '<instanceLifecycle>spot</instanceLifecycle>' : '',
    reason ? `<stateReason><code>${reason.code}</code><message>${xml(reason.message)}</message></stateReason>` : '',
    tags.length === 0 ? '' : `<tagSet>${tags.join('')}</tagSet>`,
  ].join('');
}

function statusXml(one: FakeInstance): string {
  const events = (one.events ?? []).map(
    ({ code, description, notBefore }) =>
      `<item><code>${code}</code><description>${xml(description)}</description><notBefore>${notBefore}</notBefore></item>`,
  );
  const status = (name: string, value: string) => `<${name}><status>${value}</status></${name}>`;
  const unless = one.state === 'running' ? 'ok' : 'not-applicable';
  return [
    `<item><instanceId>${one.id}</instanceId>`,
    `<instanceState><code>${STATE_CODES[one.state] ?? 0}</code><name>${one.state}</name></instanceState>`,
    events.length === 0 ? '' : `<eventsSet>${events.join('')}</eventsSet>`,
    status('systemStatus', one.systemStatus ?? unless),
    status('instanceStatus', one.instanceStatus ?? unless),
    '</item>',
  ].join('');
}

function document(operation: string, content: string): string {
  const namespace = 'http://ec2.amazonaws.com/doc/2016-11-15/';
  return (
    `<?xml version="1.0" encoding="UTF-8"?>\n<${operation}Response xmlns="${namespace}">` +
    `<requestId>fake</requestId>${content}</${operation}Response>`
  );
}

function element(name: string, value: string | undefined): string {
  return value === undefined ? '' : `<${name}>${xml(value)}</${name}>`;
}

function xml(text: string): string {
  const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  // Control characters as references: an XML parser would drop or normalise them otherwise.
  return text.replaceAll(/[&<>"]|\p{Cc}/gu, (one) => escapes[one] ?? `&#${one.codePointAt(0)};`);
}
