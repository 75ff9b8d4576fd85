/** How a service is checked, as it is written in `--services`: `name=systemd:unit`, `name=http://...`, and so on. */

export const SERVICE_KINDS = ['systemd', 'http', 'tcp', 'interface'] as const;
export type ServiceKind = (typeof SERVICE_KINDS)[number];

export interface ServiceSpec {
  name: string;
  kind: ServiceKind;
  /** Units or interfaces separated by `|` (the first that exists counts), a URL, or host:port. */
  what: string;
  /** If it is not there at all, that is all right. */
  isOptional?: boolean;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const UNITS = /^[A-Za-z0-9:_.@|-]+$/;
// An interface may end in *: any that begins so.
const INTERFACES = /^[A-Za-z0-9_.@-]+\*?(?:\|[A-Za-z0-9_.@-]+\*?)*$/;
const HOST_PORT = /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):\d{1,5}$/;

/** Undefined for what is none. */
export function parseServiceSpec(text: string): ServiceSpec | undefined {
  const at = text.indexOf('=');
  const name = text.slice(0, Math.max(0, at));
  const check = text.slice(at + 1);
  if (!NAME.test(name)) return undefined;
  if (/^https?:\/\//.test(check)) return URL.canParse(check) ? { name, kind: 'http', what: check } : undefined;
  const colon = check.indexOf(':');
  const kind = check.slice(0, Math.max(0, colon));
  const what = check.slice(colon + 1);
  switch (kind) {
    case 'systemd':
      return UNITS.test(what) ? { name, kind, what } : undefined;
    case 'http':
      return URL.canParse(what) && /^https?:/.test(what) ? { name, kind, what } : undefined;
    case 'tcp':
      return HOST_PORT.test(what) ? { name, kind, what } : undefined;
    case 'interface':
      return INTERFACES.test(what) ? { name, kind, what } : undefined;
    default:
      return undefined;
  }
}

export function printServiceSpec({ name, kind, what }: ServiceSpec): string {
  return `${name}=${kind}:${what}`;
}

/** What agents have always reported on, as far as it is there. */
export function defaultServices(ollamaUrl: string): ServiceSpec[] {
  return [
    { name: 'nebula', kind: 'interface', what: 'nebula1', isOptional: true },
    { name: 'k3s', kind: 'systemd', what: 'k3s|k3s-agent', isOptional: true },
    { name: 'ollama', kind: 'http', what: new URL('/api/version', ollamaUrl).href, isOptional: true },
    { name: 'liqo', kind: 'interface', what: 'liqo*', isOptional: true },
  ];
}
