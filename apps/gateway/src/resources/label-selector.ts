/** Which resources a client means, by their labels: `k=v`, `k!=v`, `k` (has it) or `!k`, joined by commas. */
import { ClientError } from '@carrierarr/protocol';
import { shown } from '../problem.js';

/** Requirements of one selector. */
const REQUIREMENTS_MAX = 64;
const REQUIREMENT = /^(?:(?<absent>!)\s*)?(?<key>[^\s!=,]+)\s*(?:(?<operator>==?|!=)\s*(?<value>[^=!]*))?$/;

export type LabelSelector = (labels: Readonly<Record<string, string>>) => boolean;

/** Compiles a selector; an empty one matches everything. Throws ClientError `bad_message`. */
export function labelSelector(text: string): LabelSelector {
  if (text.trim() === '') return () => true;
  const parts = text.split(',');
  if (parts.length > REQUIREMENTS_MAX) {
    throw new ClientError(
      'bad_message',
      `The label selector has ${parts.length} requirements; at most ${REQUIREMENTS_MAX} are allowed.`,
    );
  }
  const requirements = parts.map(requirement);
  return (labels) => requirements.every((holds) => holds(labels));
}

function requirement(text: string): LabelSelector {
  const { absent, key, operator, value } = REQUIREMENT.exec(text.trim())?.groups ?? {};
  if (key === undefined || (absent !== undefined && operator !== undefined)) {
    throw new ClientError(
      'bad_message',
      `Expected a label selector such as \`env=prod,tier!=test\`, got ${shown(text)} in it. ` +
        'Each part is k=v, k!=v, k (has the label) or !k (has it not).',
    );
  }
  const wanted = value?.trim();
  if (absent !== undefined) return (labels) => !Object.hasOwn(labels, key);
  if (operator === undefined) return (labels) => Object.hasOwn(labels, key);
  const isEqual: LabelSelector = (labels) => Object.hasOwn(labels, key) && labels[key] === wanted;
  return operator === '!=' ? (labels) => !isEqual(labels) : isEqual;
}
