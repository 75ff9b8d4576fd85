/**
 * The OpenAPI 3.1 document of the HTTP routes, from the schemas of bodies and queries. `docs/reference/openapi.json` is
 * its text. A test compares the routes here with those that the gateway has.
 */
import { z } from 'zod';
import { type ErrorCode, ERRORS } from './errors.js';
import { type JsonSchema, jsonSchemas } from './json-schema.js';
import { OPERATIONS } from './openapi-operations.js';
import { type Body, type Operation, SCHEMAS } from './openapi-schemas.js';

const OPEN_ERRORS: readonly ErrorCode[] = ['origin_refused', 'host_refused', 'internal'];
const CLOSED_ERRORS: readonly ErrorCode[] = [
  ...OPEN_ERRORS,
  'bad_message',
  'unauthenticated',
  'rate_limited',
  'unavailable',
];

export function openApiDocument(version: string): JsonSchema {
  const paths: Record<string, Record<string, JsonSchema>> = {};
  for (const operation of OPERATIONS) (paths[operation.path] ??= {})[operation.method] = operationObject(operation);
  return {
    openapi: '3.1.0',
    info: {
      title: 'carrierarr HTTP',
      version,
      description:
        'What `/ws` does, for people with curl, and what operates a gateway. A route with GET answers HEAD too. An error ' +
        'is an `Error` whose `code` is in the table of errors.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: 'http://127.0.0.1:8090', description: 'Where a gateway listens unless it is told otherwise.' }],
    // The last: a gateway without authentication asks for none.
    security: [{ bearer: [] }, { query: [] }, {}],
    paths,
    components: {
      schemas: jsonSchemas(SCHEMAS, 'draft-2020-12'),
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', description: 'A token of the tokens file, or a JSON Web Token.' },
        query: { type: 'apiKey', in: 'query', name: 'access_token', description: 'The same as a parameter.' },
      },
    },
  };
}

function operationObject(operation: Operation): JsonSchema {
  const {
    id,
    summary,
    description,
    isOpen = false,
    params = {},
    query,
    body,
    bodyTypes,
    answers,
    headers,
    errors = [],
  } = operation;
  const parameters = [
    ...Object.entries(params).map(([name, schema]) => parameter('path', name, jsonSchema(schema), true)),
    ...(query === undefined ? [] : queryParameters(jsonSchema(query))),
  ];
  return {
    operationId: id,
    summary,
    ...(description !== undefined && { description }),
    ...(isOpen && { security: [] }),
    ...(parameters.length > 0 && { parameters }),
    ...(body !== undefined && { requestBody: { required: true, content: contentOf(body, bodyTypes) } }),
    responses: {
      ...Object.fromEntries(
        Object.entries(answers).map(([status, [text, ...bodies]]) => [
          status,
          {
            description: text,
            ...(headers && {
              headers: Object.fromEntries(
                Object.entries(headers).map(([name, about]) => [
                  name,
                  { description: about, schema: { type: 'string' } },
                ]),
              ),
            }),
            content: Object.assign({}, ...bodies.map((answer) => contentOf(answer))),
          },
        ]),
      ),
      ...errorResponses(id === 'health' ? ['internal'] : [...(isOpen ? OPEN_ERRORS : CLOSED_ERRORS), ...errors]),
    },
  };
}

function errorResponses(codes: readonly ErrorCode[]): Record<string, JsonSchema> {
  const statuses = new Set(codes.map((code) => ERRORS[code].http));
  return Object.fromEntries(
    [...statuses].map((status) => {
      const meanings = codes
        .filter((code) => ERRORS[code].http === status)
        .map((code) => `\`${code}\`: ${ERRORS[code].meaning}`);
      return [status, { description: meanings.join(' '), content: contentOf('Error') }];
    }),
  );
}

function contentOf(body: Body, types: readonly string[] = ['application/json']): JsonSchema {
  if (typeof body === 'string') {
    return Object.fromEntries(types.map((type) => [type, { schema: { $ref: `#/components/schemas/${body}` } }]));
  }
  return Object.fromEntries(
    Object.entries(body).map(([type, description]) => [type, { schema: { type: 'string', description } }]),
  );
}

function queryParameters({ properties, required }: JsonSchema): JsonSchema[] {
  return Object.entries(properties as Record<string, JsonSchema>).map(([name, schema]) =>
    parameter('query', name, schema, ((required ?? []) as string[]).includes(name)),
  );
}

function parameter(place: 'path' | 'query', name: string, schema: JsonSchema, required: boolean): JsonSchema {
  const { description, ...rest } = schema;
  return { name, in: place, required, ...(description !== undefined && { description }), schema: rest };
}

function jsonSchema(schema: z.ZodType): JsonSchema {
  return jsonSchemas({ it: schema }, 'draft-2020-12')['it'] ?? {};
}
