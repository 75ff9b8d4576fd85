/** YAML for people and programs: the same document everywhere, without anything that would drive a terminal. */
import { Document, isScalar, visit } from 'yaml';
import { hasControl, visibleJson } from './visible.js';

/** Ends with a newline. Texts with control characters are quoted and escaped. */
export function yamlText(value: unknown): string {
  const document = new Document(value, { aliasDuplicateObjects: false });
  visit(document, {
    Scalar(_key, node) {
      if (typeof node.value === 'string' && hasControl(node.value)) node.type = 'QUOTE_DOUBLE';
    },
    Pair(_key, { key }) {
      if (isScalar(key) && typeof key.value === 'string' && hasControl(key.value)) key.type = 'QUOTE_DOUBLE';
    },
  });
  // Line breaks are the document's own: those of texts are escaped by their quotes.
  const text = document.toString({ lineWidth: 0, doubleQuotedMinMultiLineLength: Number.MAX_SAFE_INTEGER });
  return text.split('\n').map(visibleJson).join('\n');
}

/** Several documents, each after `---`. */
export function yamlDocument(value: unknown): string {
  return `---\n${yamlText(value)}`;
}
