/** Models of Ollama: fetched and put out of memory by its own API. https://github.com/ollama/ollama/blob/main/docs/api.md */
import type { IncomingMessage } from 'node:http';
import { openRequest } from '../status/http.js';
import type { OwnTask } from './own-work.js';

/** Fetches a model; says its progress in lines. */
export function pullModel(ollamaUrl: string, model: string): OwnTask {
  return async (say, signal) => {
    const response = await post(ollamaUrl, '/api/pull', { model, name: model, stream: true }, signal);
    const progress = new PullProgress();
    let isDone = false;
    for await (const line of linesOf(response, `Ollama broke off while pulling ${model}`)) {
      const answer = jsonOf(line);
      const error = answer['error'];
      if (typeof error === 'string') throw new Error(`Ollama could not pull ${model}: ${error}`);
      for (const text of progress.read(answer)) say(text);
      isDone ||= answer['status'] === 'success';
    }
    if (!isDone) throw new Error(`Ollama broke off while pulling ${model}.`);
  };
}

/** Puts a model out of memory; its files stay. */
export function unloadModel(ollamaUrl: string, model: string): OwnTask {
  return async (say, signal) => {
    const response = await post(ollamaUrl, '/api/generate', { model, keep_alive: 0, stream: false }, signal);
    response.resume();
    say(`unloaded ${model}`);
  };
}

async function post(ollamaUrl: string, path: string, json: unknown, signal: AbortSignal): Promise<IncomingMessage> {
  let response: IncomingMessage;
  try {
    response = await openRequest(new URL(path, ollamaUrl).href, { method: 'POST', json, signal });
  } catch (cause) {
    throw new Error(`Ollama at ${ollamaUrl} cannot be reached: ${(cause as Error).message}`, { cause });
  }
  if (response.statusCode === 200) return response;
  let body = '';
  for await (const chunk of response) {
    body += String(chunk);
    if (body.length > 1_000) break;
  }
  const error = jsonOf(body)['error'];
  throw new Error(`Ollama answered ${response.statusCode}: ${typeof error === 'string' ? error : body.slice(0, 300)}`);
}

/** Of an answer: what has none within this is none of Ollama's. */
const LINE_CHARS_MAX = 1024 * 1024;

/** Rejects with `broken` and why when the answer breaks off. */
async function* linesOf(response: IncomingMessage, broken: string): AsyncGenerator<string> {
  let begun = '';
  response.setEncoding('utf8');
  try {
    for await (const chunk of response as AsyncIterable<string>) {
      const lines = `${begun}${chunk}`.split('\n');
      begun = lines.pop() ?? '';
      yield* lines;
      if (begun.length > LINE_CHARS_MAX)
        throw new Error(`a line of its answer has more than ${LINE_CHARS_MAX} characters`);
    }
  } catch (cause) {
    throw new Error(`${broken}: ${(cause as Error).message}`, { cause });
  }
  yield begun;
}

const STEP_PERCENT = 5;

/** Of the many messages of a pull those worth a line: each new step, and every few percent of a layer. Pure. */
export class PullProgress {
  #status = '';
  #percent = 0;

  read(message: Record<string, unknown>): string[] {
    const { status, total, completed } = message;
    if (typeof status !== 'string' || status === '') return [];
    const percent =
      typeof total === 'number' && total > 0 && typeof completed === 'number'
        ? Math.floor((100 * completed) / total / STEP_PERCENT) * STEP_PERCENT
        : undefined;
    if (status === this.#status && (percent === undefined || percent <= this.#percent)) return [];
    this.#status = status;
    this.#percent = percent ?? 0;
    return [percent === undefined ? status : `${status} ${percent} %`];
  }
}

function jsonOf(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
