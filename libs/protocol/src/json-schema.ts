/** The protocol's zod schemas as JSON Schemas, for the generated documents. */
import { z } from 'zod';

export type JsonSchema = Record<string, unknown>;

/**
 * JSON Schemas by name; those that contain one another refer to it at `#/components/schemas/<name>`. They describe what
 * a sender may write, so fields with a default are optional, and unknown fields are allowed where they are ignored.
 */
export function jsonSchemas(
  schemas: Readonly<Record<string, z.ZodType>>,
  target: 'draft-7' | 'draft-2020-12',
): Record<string, JsonSchema> {
  const registry = z.registry<{ id: string }>();
  for (const [name, schema] of Object.entries(schemas)) registry.add(schema, { id: name });
  const made = z.toJSONSchema(registry, {
    target,
    io: 'input',
    uri: (name) => `#/components/schemas/${name}`,
    override: ({ jsonSchema }) => {
      // Said by the format already, in 400 characters.
      if (jsonSchema.format === 'date-time') delete jsonSchema.pattern;
      if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
    },
  });
  return Object.fromEntries(
    Object.entries(made.schemas).map(([name, { $id: _id, $schema: _dialect, ...schema }]) => [name, schema]),
  );
}
