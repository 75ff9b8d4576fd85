/** Who may be an agent: with a tokens file, whoever shows one of its tokens. Certificates are checked by TLS before. */
import type { Tokens } from '@carrierarr/platform';
import type { Metadata } from '@grpc/grpc-js';

const BEARER = /^Bearer +(\S+)$/i;

/** Of a call that may go on: whether what let it in still does. */
export type Admission = () => boolean;

/** The problem says why a call is refused. */
export function admissionOf(
  tokens: Tokens | undefined,
  metadata: Metadata,
): { problem: string } | { isStillIn: Admission } {
  if (tokens === undefined) return { isStillIn: () => true };
  const [given] = metadata.get('authorization');
  if (given === undefined) return { problem: 'Expected a token as `authorization: Bearer TOKEN`, got none.' };
  const token = BEARER.exec(String(given))?.[1];
  if (token === undefined) return { problem: 'Expected `authorization: Bearer TOKEN`, got something else.' };
  const found = tokens.find(token);
  if (found === undefined) return { problem: 'The token is not one of those that are let in.' };
  const { proof, subject } = found;
  return { isStillIn: () => tokens.holds(proof, subject) };
}
