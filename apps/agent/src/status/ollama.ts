/** What Ollama has and what it is doing: its own API, and the connections to it. */
import type { OllamaModel } from '@carrierarr/protocol/agent-control';
import { httpRequest, networkCode } from './http.js';

/** A model in memory. */
export interface LoadedModel {
  name: string;
  /** When Ollama unloads it if nobody uses it, epoch ms. */
  expiresMs: number;
}

export interface OllamaReport {
  isThere: boolean;
  models: OllamaModel[];
  /** Undefined: it is there, or may be, and does not say. */
  loaded: LoadedModel[] | undefined;
}

const TIMEOUT_MS = 3_000;
const MODELS_MAX = 1_000;
const ABSENT: OllamaReport = { isThere: false, models: [], loaded: [] };
const SILENT: OllamaReport = { ...ABSENT, loaded: undefined };

/** What answers there is no Ollama: it has no such resources. Another refusal, as by a proxy before it, tells nothing. */
class OtherServiceError extends Error {
  override name = 'OtherServiceError';
}

/** Never rejects: without Ollama there are no models. */
export async function lookAtOllama(url: string, timeoutMs = TIMEOUT_MS): Promise<OllamaReport> {
  try {
    const [tags, ps] = await Promise.all([ask(url, '/api/tags', timeoutMs), ask(url, '/api/ps', timeoutMs)]);
    return ollamaReport(tags, ps);
  } catch (error) {
    const isAbsent = error instanceof OtherServiceError || networkCode(error) === 'ECONNREFUSED';
    return isAbsent ? ABSENT : SILENT;
  }
}

async function ask(url: string, path: string, timeoutMs: number): Promise<unknown> {
  const { status, body } = await httpRequest(new URL(path, url).href, { timeoutMs });
  const expected = `Expected 200 from Ollama's ${path}, got ${status}.`;
  if (status === 404 || status === 405) throw new OtherServiceError(expected);
  if (status !== 200) throw new Error(expected);
  return JSON.parse(body);
}

/** From the answers of `/api/tags` (what it has) and `/api/ps` (what is in memory). What makes no sense is left out. */
export function ollamaReport(tags: unknown, ps: unknown): OllamaReport & { loaded: LoadedModel[] } {
  const loaded = modelsOf(ps).map((model) => ({ name: nameOf(model), expiresMs: timeOf(model['expires_at']) }));
  const names = new Set(loaded.map(({ name }) => name));
  const models = new Map<string, OllamaModel>();
  for (const model of [...modelsOf(tags), ...modelsOf(ps)]) {
    const name = nameOf(model);
    if (models.has(name)) continue;
    const size = model['size'];
    const sizeBytes = typeof size === 'number' && Number.isSafeInteger(size) && size > 0 ? size : 0;
    models.set(name, { name, sizeBytes, currentlyLoaded: names.has(name) });
  }
  return { isThere: true, models: [...models.values()].slice(0, MODELS_MAX), loaded };
}

function modelsOf(answer: unknown): Record<string, unknown>[] {
  const models = (answer as { models?: unknown } | null)?.models;
  if (!Array.isArray(models)) return [];
  return models.filter((model): model is Record<string, unknown> => {
    return typeof model === 'object' && model !== null && nameOf(model as Record<string, unknown>) !== '';
  });
}

function nameOf(model: Record<string, unknown>): string {
  const name = model['name'] ?? model['model'];
  return typeof name === 'string' ? name.slice(0, 500) : '';
}

/** Epoch ms. Of a time that is none, or so late that it means never, a very late one. */
function timeOf(value: unknown): number {
  const ms = typeof value === 'string' ? Date.parse(value) : Number.NaN;
  return Number.isFinite(ms) ? ms : Number.MAX_SAFE_INTEGER;
}

const ESTABLISHED = '01';

/**
 * Established connections to a local port, in texts of /proc/net/tcp and tcp6. A connection of this machine to itself
 * stands there twice, once from each side; only the side of the server counts.
 */
export function connectionsTo(port: number, tables: readonly string[]): number {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  let count = 0;
  for (const table of tables) {
    for (const line of table.split('\n').slice(1)) {
      const [, local = '', , state] = line.trim().split(/\s+/);
      if (state === ESTABLISHED && local.endsWith(suffix)) count++;
    }
  }
  return count;
}
