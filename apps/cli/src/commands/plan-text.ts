/** A plan of the reconciler in one sentence, and what it would do in some words more. Pure. */
import type { PlanBody } from '@carrierarr/protocol';

const NAMES_MAX = 5;

/** One line; parts of it are others' words. */
export function planText({ summary, command, create = [], update = [], delete: gone = [] }: PlanBody): string {
  const parts = [
    ...(command === undefined ? [] : [`runs \`${[command.verb, ...command.args].join(' ')}\` on ${command.target}`]),
    ...listed('makes', create),
    ...listed('changes', update),
    ...listed('lets go', gone),
  ];
  return parts.length === 0 ? summary : `${summary} (${parts.join('; ')})`;
}

function listed(what: string, names: readonly string[]): string[] {
  if (names.length === 0) return [];
  const more = names.length > NAMES_MAX ? ` and ${names.length - NAMES_MAX} more` : '';
  return [`${what} ${names.slice(0, NAMES_MAX).join(', ')}${more}`];
}
