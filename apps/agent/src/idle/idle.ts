/**
 * How long the node has been idle: a pure function of what was seen at each look.
 *
 * It was busy at a look if
 * - a command runs or a request of one is under way,
 * - a GPU was used more than the bound (none is used more than 100 %: then GPUs do not count, whether or not they can be seen),
 * - Ollama has a model in memory that was used since the look before: Ollama sets the time at which it would unload a model
 *   anew after each use, so that time has moved (or the model is new); or one that it still keeps though that time is
 *   over, which it does only while a request uses it,
 * - a connection to Ollama is open (unless connections are not to count: a client may keep one without using it).
 *
 * Models that merely lie in memory, CPU load and logged-in people do not count.
 *
 * No answer is not "idle": for a moment what a source said last holds, and after that nobody knows, which never powers a
 * machine off. So an answer that is merely late neither hides work nor counts as some.
 */
import type { LoadedModel } from '../status/ollama.js';

/** Undefined: it could not be seen. */
export interface IdleSight {
  commands: number;
  /** Of each GPU, %. */
  gpuPercents: readonly number[] | undefined;
  loaded: readonly LoadedModel[] | undefined;
  connections: number | undefined;
}

export interface IdleBounds {
  gpuPercent: number;
  countConnections: boolean;
}

export type IdleSource = 'gpu' | 'model' | 'connection';
/** `unknown`: nobody can tell. */
export type BusyBecause = 'command' | IdleSource | 'unknown';

/** What must be remembered from one look to the next. */
export interface IdleMemory {
  /** As they were when they were last seen. */
  loaded: readonly LoadedModel[] | undefined;
  /** What each source meant when it last answered, and when that was, monotonic ms. */
  answers: Partial<Record<IdleSource, { isBusy: boolean; ms: number }>>;
}

export const NO_MEMORY: IdleMemory = { loaded: undefined, answers: {} };

export interface IdleJudgement {
  /** Undefined: it is idle. */
  because: BusyBecause | undefined;
  /** Sources that have not answered for so long that it is not known what they would say. */
  unknown: readonly IdleSource[];
  memory: IdleMemory;
}

/** What a source that does not answer said last holds for so long. */
export const ANSWER_HOLDS_MS = 2 * 60_000;

/** Ollama unloads a moment after the time it names. */
const UNLOAD_MARGIN_MS = 15_000;
/** Ollama's times of one and the same use differ by less. */
const SAME_USE_MS = 1_000;

/** Whether it is busy. `epochMs` is the time by which Ollama's are to be read. */
export function judgeIdle(
  { commands, gpuPercents, loaded, connections }: IdleSight,
  memory: IdleMemory,
  { gpuPercent, countConnections }: IdleBounds,
  { epochMs, monotonicMs }: { epochMs: number; monotonicMs: number },
): IdleJudgement {
  const now: Record<IdleSource, boolean | undefined> = {
    gpu: gpuPercent >= 100 ? false : gpuPercents?.some((percent) => percent > gpuPercent),
    model: loaded?.some((model) => isUsed(model, memory.loaded, epochMs)),
    connection: !countConnections ? false : connections === undefined ? undefined : connections > 0,
  };
  const answers = { ...memory.answers };
  const unknown: IdleSource[] = [];
  const busy: BusyBecause[] = commands > 0 ? ['command'] : [];
  for (const source of ['gpu', 'model', 'connection'] as const) {
    const isBusy = now[source];
    if (isBusy !== undefined) answers[source] = { isBusy, ms: monotonicMs };
    const answer = answers[source];
    if (answer === undefined || monotonicMs - answer.ms > ANSWER_HOLDS_MS) unknown.push(source);
    else if (answer.isBusy) busy.push(source);
  }
  if (unknown.length > 0) busy.push('unknown');
  return { because: busy[0], unknown, memory: { loaded: loaded ?? memory.loaded, answers } };
}

function isUsed(
  { name, expiresMs }: LoadedModel,
  before: readonly LoadedModel[] | undefined,
  epochMs: number,
): boolean {
  if (epochMs > expiresMs + UNLOAD_MARGIN_MS) return true;
  // At the first look nothing is known of what was before.
  if (before === undefined) return false;
  const known = before.find((model) => model.name === name);
  return known === undefined || expiresMs > known.expiresMs + SAME_USE_MS;
}
