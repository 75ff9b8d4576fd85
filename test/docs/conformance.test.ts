import asyncApiSpecs from '@asyncapi/specs';
import { asyncApiDocument, documentedMessages, openApiDocument } from '@carrierarr/protocol';
import { Validator } from '@seriousme/openapi-schema-validator';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { createRoutes, type RouteDependencies } from '../../apps/gateway/src/http/routes.js';

describe('the AsyncAPI document', () => {
  // strict: false, as the official schema has keywords and formats of its own.
  const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
  const validate = ajv.compile(asyncApiSpecs.schemasWithoutId['3.0.0'] as object);

  it('is one by the official schema of AsyncAPI 3.0.0', () => {
    validate(asyncApiDocument('1.2.3'));
    expect(validate.errors).toBeNull();
  });

  it('would not pass if it were none', () => {
    expect(validate({ ...asyncApiDocument('1.2.3'), channels: { ws: { address: 7 } } })).toBe(false);
  });

  it('refers to nothing that is not there', () => {
    const document = asyncApiDocument('1.2.3');
    expect(referencesOf(document).filter((ref) => resolve(document, ref) === undefined)).toEqual([]);
  });

  const { client, server } = documentedMessages();
  it.each([...client, ...server])('has a schema that its own examples fit: $type', ({ schema, examples }) => {
    const fits = ajv.compile(schema);
    for (const example of examples) {
      fits(example);
      expect(fits.errors).toBeNull();
    }
    expect(fits({ type: 'another' })).toBe(false);
  });
});

describe('the OpenAPI document', () => {
  it('is one by the official schema of OpenAPI 3.1', async () => {
    const validator = new Validator();
    expect(await validator.validate(openApiDocument('1.2.3'))).toEqual({ valid: true });
    expect(validator.version).toBe('3.1');
  });

  it('refers to nothing that is not there', () => {
    const document = openApiDocument('1.2.3');
    expect(referencesOf(document).filter((ref) => resolve(document, ref) === undefined)).toEqual([]);
  });

  it('has the routes that the gateway has', () => {
    // Made, never called: what they would need is not there.
    const config = { page: 'page.html', opsAddr: null, commandsPerSecond: 1, commandsBurst: 1 };
    const routes = createRoutes({ config } as RouteDependencies);
    const paths = openApiDocument('1.2.3')['paths'] as Record<string, Record<string, { security?: unknown[] }>>;
    const documented = Object.entries(paths).flatMap(([path, operations]) =>
      Object.entries(operations).map(
        ([method, { security }]) => `${method.toUpperCase()} ${path}${security === undefined ? '' : ' (open)'}`,
      ),
    );
    expect(documented.toSorted()).toEqual(
      routes.map(({ method, path, isOpen }) => `${method} ${path}${isOpen ? ' (open)' : ''}`).toSorted(),
    );
  });
});

function referencesOf(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    key === '$ref' && typeof inner === 'string' ? [inner] : referencesOf(inner),
  );
}

function resolve(document: unknown, reference: string): unknown {
  const keys = reference.replace(/^#\//, '').split('/');
  return keys.reduce((at: unknown, key) => (at as Record<string, unknown> | undefined)?.[key], document);
}
