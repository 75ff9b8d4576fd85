/** Who may be an agent: with a tokens file, whoever shows one of its tokens. Certificates are checked by TLS before. */
import type { Tokens } from '@carrierarr/platform';
import type { Metadata } from '@grpc/grpc-js';

const BEARER = /^Bearer +(\S+)$/i;

/** Why a call is refused; undefined if it may go on. */
export function problemOfToken(tokens: Tokens | undefined, metadata: Metadata): string | undefined {
  if (tokens === undefined) return undefined;
  const [given] = metadata.get('authorization');
  if (given === undefined) return 'Expected a token as `authorization: Bearer TOKEN`, got none.';
  const token = BEARER.exec(String(given))?.[1];
  if (token === undefined) return 'Expected `authorization: Bearer TOKEN`, got something else.';
  return tokens.find(token) === undefined ? 'The token is not one of those that are let in.' : undefined;
}
