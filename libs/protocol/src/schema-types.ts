/** Types of JSON Schemas in words, for tables of the reference. */
import type { JsonSchema } from './json-schema.js';

/** A type in a few words: `string`, `string[]`, `"a" or "b"`, `{epoch, offset}`. */
export function typeOf(field: JsonSchema): string {
  const { type, enum: words, anyOf, items, properties, additionalProperties } = field;
  if (Array.isArray(anyOf)) return (anyOf as JsonSchema[]).map(typeOf).join(' or ');
  if (Array.isArray(words)) return words.map((word) => JSON.stringify(word)).join(' or ');
  if (Array.isArray(type)) return type.join(' or ');
  if (typeof type !== 'string') return 'any';
  if (type === 'array') return `${typeOf(items as JsonSchema)}[]`;
  if (type !== 'object') return field['format'] === 'date-time' ? 'time' : type;
  if (properties !== undefined) return `{${Object.keys(properties as object).join(', ')}}`;
  return `map of ${typeOf(additionalProperties as JsonSchema)}`;
}

/** The description of a field; empty for none. */
export function textOf(field: JsonSchema): string {
  return typeof field['description'] === 'string' ? field['description'] : '';
}

/** A text as a cell of a table. */
export function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}
