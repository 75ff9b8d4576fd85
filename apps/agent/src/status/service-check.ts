/** Looks whether a service runs. Every check answers within its time, whatever the service does. */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { parseAddress } from '@carrierarr/platform';
import { ServiceState, type ServiceStatus } from '@carrierarr/protocol/agent-control';
import { httpRequest, networkCode } from './http.js';
import { probe } from './probe.js';
import type { ServiceSpec } from './service-spec.js';

const TIMEOUT_MS = 3_000;
/** Documented in sd_booted(3). */
const SYSTEMD_RUNS = '/run/systemd/system';
const INTERFACES = '/sys/class/net';

/** Never rejects. */
export async function checkService(spec: ServiceSpec, timeoutMs = TIMEOUT_MS): Promise<ServiceStatus> {
  switch (spec.kind) {
    case 'systemd':
      return checkUnits(spec.what.split('|'), timeoutMs);
    case 'http':
      return checkHttp(spec, timeoutMs);
    case 'tcp':
      return checkTcp(spec, timeoutMs);
    case 'interface':
      return checkInterfaces(spec.what.split('|'));
  }
}

const status = (state: ServiceState, message = '', uptimeSeconds = 0): ServiceStatus => ({
  ...{ state, message, uptimeSeconds },
});
const NOT_INSTALLED = (message: string) => status(ServiceState.SERVICE_STATE_NOT_INSTALLED, message);

async function checkUnits(units: readonly string[], timeoutMs: number): Promise<ServiceStatus> {
  let last = NOT_INSTALLED('no unit');
  for (const unit of units) {
    const properties = 'LoadState,ActiveState,SubState,ActiveEnterTimestampMonotonic';
    const answer = await probe('systemctl', ['show', '--property', properties, '--', unit], timeoutMs);
    if (answer.kind === 'absent') return NOT_INSTALLED('there is no systemctl');
    if (answer.kind === 'failed' && !existsSync(SYSTEMD_RUNS)) return NOT_INSTALLED('systemd does not run here');
    if (answer.kind === 'failed') return status(ServiceState.SERVICE_STATE_ERROR, `systemctl: ${answer.problem}`);
    last = unitStatus(answer.stdout, process.hrtime());
    if (last.state !== ServiceState.SERVICE_STATE_NOT_INSTALLED) return last;
  }
  return last;
}

/** From what `systemctl show` says. `now`: the monotonic clock, as [s, ns]; systemd counts by the same. */
export function unitStatus(properties: string, [nowS]: readonly [number, number]): ServiceStatus {
  const values = new Map(
    properties.split('\n').map((line) => {
      const at = line.indexOf('=');
      return [line.slice(0, at), line.slice(at + 1)] as const;
    }),
  );
  if (values.get('LoadState') === 'not-found') return NOT_INSTALLED('no such unit');
  const active = values.get('ActiveState') ?? '';
  const words = `${active} (${values.get('SubState') ?? ''})`;
  switch (active) {
    case 'active': {
      const sinceUs = Number(values.get('ActiveEnterTimestampMonotonic') ?? 0);
      const uptime = sinceUs > 0 ? Math.max(0, Math.floor(nowS - sinceUs / 1e6)) : 0;
      return status(ServiceState.SERVICE_STATE_RUNNING, '', uptime);
    }
    case 'activating':
    case 'reloading':
      return status(ServiceState.SERVICE_STATE_STARTING, words);
    case 'failed':
      return status(ServiceState.SERVICE_STATE_ERROR, words);
    default:
      return status(ServiceState.SERVICE_STATE_STOPPED, words);
  }
}

async function checkHttp({ what, isOptional }: ServiceSpec, timeoutMs: number): Promise<ServiceStatus> {
  try {
    const answer = await httpRequest(what, { timeoutMs });
    if (answer.status < 400) return status(ServiceState.SERVICE_STATE_RUNNING);
    return status(ServiceState.SERVICE_STATE_ERROR, `answered ${answer.status}`);
  } catch (error) {
    const code = networkCode(error);
    if (code === 'ECONNREFUSED') return nobodyListens(isOptional);
    const late = `no answer within ${timeoutMs / 1000} s`;
    return status(ServiceState.SERVICE_STATE_ERROR, code === 'late' ? late : (code ?? (error as Error).message));
  }
}

function nobodyListens(isOptional: boolean | undefined): ServiceStatus {
  const message = 'nobody listens';
  return isOptional ? NOT_INSTALLED(message) : status(ServiceState.SERVICE_STATE_STOPPED, message);
}

function checkTcp({ what, isOptional }: ServiceSpec, timeoutMs: number): Promise<ServiceStatus> {
  const address = parseAddress(what);
  if (address === undefined) return Promise.resolve(status(ServiceState.SERVICE_STATE_ERROR, 'no address'));
  return new Promise((resolve) => {
    const socket = connect({ host: address.host, port: address.port, timeout: timeoutMs });
    const end = (found: ServiceStatus) => {
      socket.destroy();
      resolve(found);
    };
    socket.once('connect', () => end(status(ServiceState.SERVICE_STATE_RUNNING)));
    socket.once('timeout', () =>
      end(status(ServiceState.SERVICE_STATE_ERROR, `no connection within ${timeoutMs / 1000} s`)),
    );
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED') end(nobodyListens(isOptional));
      else end(status(ServiceState.SERVICE_STATE_ERROR, error.code ?? error.message));
    });
  });
}

const IS_UP = 1;

async function checkInterfaces(patterns: readonly string[]): Promise<ServiceStatus> {
  const names = await readdir(INTERFACES).catch(() => [] as string[]);
  const found = names.find((name) => patterns.some((pattern) => matches(name, pattern)));
  if (found === undefined) return NOT_INSTALLED(`no interface ${patterns.join(', ')}`);
  const flags = await readFile(`${INTERFACES}/${found}/flags`, 'utf8').catch(() => '0');
  if ((Number(flags.trim()) & IS_UP) !== 0) return status(ServiceState.SERVICE_STATE_RUNNING);
  return status(ServiceState.SERVICE_STATE_STOPPED, `${found} is down`);
}

function matches(name: string, pattern: string): boolean {
  return pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}
