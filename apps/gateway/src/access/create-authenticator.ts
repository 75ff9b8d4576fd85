/** The authenticator that a configuration asks for. */
import { type Clock, type Logger, Tokens } from '@carrierarr/platform';
import type { GatewayConfig } from '../config.js';
import { Authenticator } from './authenticate.js';
import { Jwt } from './jwt.js';

type Config = Pick<
  GatewayConfig,
  'tokensFile' | 'jwtJwksUrl' | 'jwtJwksFile' | 'jwtIssuer' | 'jwtAudience' | 'jwtSubjectClaim'
>;

/** Not started: `start()` reads the files. The configuration has passed `validateGatewayConfig`. */
export function createAuthenticator(
  config: Config,
  { clock, logger }: { clock: Clock; logger: Pick<Logger, 'info' | 'warn' | 'error'> },
): Authenticator {
  const { tokensFile, jwtJwksUrl, jwtJwksFile, jwtIssuer, jwtAudience, jwtSubjectClaim: subjectClaim } = config;
  const keys = jwtJwksUrl !== null ? { url: jwtJwksUrl } : jwtJwksFile !== null ? { file: jwtJwksFile } : undefined;
  if (keys && (jwtIssuer === null || jwtAudience === null)) {
    throw new TypeError('JSON Web Tokens need an issuer and an audience: validate the configuration first.');
  }
  return new Authenticator({
    ...(tokensFile !== null && { tokens: new Tokens({ path: tokensFile, clock, logger }) }),
    ...(keys && {
      jwt: new Jwt({ keys, issuer: jwtIssuer ?? '', audience: jwtAudience ?? '', subjectClaim, clock, logger }),
    }),
    now: () => clock.now(),
  });
}
