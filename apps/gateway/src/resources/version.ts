/** What a client says about the version that it has seen of a resource: headers, or the manifest itself. */
import { ClientError } from '@carrierarr/protocol';
import { shown } from '../problem.js';

const REVISION = /^\d{1,16}$/;
const ETAG = /^(?:W\/)?"(\d{1,16})"$/;

/** What must be there for a write to go through. */
export type Expectation =
  /** Whatever is there, or nothing. */
  | { kind: 'any' }
  /** Something, whatever it is. */
  | { kind: 'exists' }
  | { kind: 'nothing' }
  | { kind: 'version'; resourceVersion: string };

/** Throws ClientError `bad_message` for what is no version, or two different ones. */
export function expectationOf(
  headers: { ifMatch: string; ifNoneMatch: string },
  resourceVersion: string | undefined,
): Expectation {
  const { ifMatch, ifNoneMatch } = headers;
  if (ifNoneMatch !== '') {
    if (ifNoneMatch.trim() !== '*') throw wrong('If-None-Match', '*', ifNoneMatch);
    if (ifMatch !== '' || resourceVersion !== undefined) {
      throw new ClientError(
        'bad_message',
        'If-None-Match asks for nothing to be there, and a version for something. Keep one.',
      );
    }
    return { kind: 'nothing' };
  }
  const version = ifMatch.trim() === '*' ? undefined : ETAG.exec(ifMatch.trim())?.[1];
  if (ifMatch !== '' && ifMatch.trim() !== '*' && version === undefined) throw wrong('If-Match', '"123"', ifMatch);
  if (resourceVersion !== undefined && !REVISION.test(resourceVersion)) {
    throw new ClientError(
      'bad_message',
      `Expected \`metadata.resourceVersion\` to be one that a gateway gave, such as "123", got ${shown(resourceVersion)}.`,
    );
  }
  if (version !== undefined && resourceVersion !== undefined && version !== resourceVersion) {
    throw new ClientError(
      'bad_message',
      `If-Match says version ${version} and \`metadata.resourceVersion\` says ${resourceVersion}. Keep one of them.`,
    );
  }
  const wanted = version ?? resourceVersion;
  if (wanted !== undefined) return { kind: 'version', resourceVersion: wanted };
  return ifMatch === '' ? { kind: 'any' } : { kind: 'exists' };
}

/** Whether what is there is what was expected. */
export function meets(expectation: Expectation, resourceVersion: string | undefined): boolean {
  switch (expectation.kind) {
    case 'any':
      return true;
    case 'exists':
      return resourceVersion !== undefined;
    case 'nothing':
      return resourceVersion === undefined;
    case 'version':
      return resourceVersion === expectation.resourceVersion;
  }
}

/** The header that names the version of an answer. */
export function etagOf(resourceVersion: string): string {
  return `"${resourceVersion}"`;
}

function wrong(header: string, wanted: string, got: string): ClientError {
  return new ClientError('bad_message', `Expected the header ${header}: ${wanted}, got ${shown(got)}.`);
}
