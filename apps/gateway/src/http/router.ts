/** Which route a request means. Pure: method and path in; a route, the methods there are, or nothing out. */
import { ClientError } from '@carrierarr/protocol';

export interface Pattern {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Such as `/api/v1/executions/{id}`. */
  path: string;
}

export type Match<R extends Pattern> =
  | { kind: 'route'; route: R; params: ReadonlyMap<string, string> }
  /** The path exists, with these methods only. */
  | { kind: 'other-methods'; methods: string[] }
  | { kind: 'none' };

/**
 * The segments of a path, each decoded by itself, so that `%2F` within a target does not split it. Slashes at the end
 * mean nothing. Throws ClientError `bad_message` for what is no percent-encoding.
 */
export function segmentsOf(path: string): string[] {
  let end = path.length;
  while (path[end - 1] === '/') end -= 1;
  const raw = path.slice(0, end).split('/').slice(1);
  return raw.map((segment) => {
    try {
      return decodeURIComponent(segment);
    } catch (cause) {
      const seen = JSON.stringify(segment.slice(0, 100));
      throw new ClientError(
        'bad_message',
        `Expected percent-encoded UTF-8 in the path, got ${seen}. A literal % is written %25.`,
        { cause },
      );
    }
  });
}

/** Finds the route for a request; HEAD is answered by GET's. */
export function matchRoute<R extends Pattern>(
  routes: readonly R[],
  method: string,
  segments: readonly string[],
): Match<R> {
  const methods = new Set<string>();
  for (const route of routes) {
    const params = paramsOf(segmentsOf(route.path), segments);
    if (!params) continue;
    if (route.method === method || (route.method === 'GET' && method === 'HEAD'))
      return { kind: 'route', route, params };
    methods.add(route.method);
    if (route.method === 'GET') methods.add('HEAD');
  }
  return methods.size === 0 ? { kind: 'none' } : { kind: 'other-methods', methods: [...methods] };
}

function paramsOf(pattern: readonly string[], segments: readonly string[]): Map<string, string> | undefined {
  if (pattern.length !== segments.length) return undefined;
  const params = new Map<string, string>();
  for (const [index, part] of pattern.entries()) {
    const segment = segments[index] as string;
    if (part.startsWith('{')) params.set(part.slice(1, -1), segment);
    else if (part !== segment) return undefined;
  }
  return params;
}
