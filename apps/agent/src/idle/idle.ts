/**
 * How long the node has been idle: a pure function of what was seen at each look.
 *
 * It was busy at a look if
 * - a command runs or a request of one is under way,
 * - a GPU was used more than the bound,
 * - Ollama has a model in memory that was used since the look before: Ollama sets the time at which it would unload a model
 *   anew after each use, so that time has moved (or the model is new); or one that it still keeps though that time is
 *   over, which it does only while a request uses it,
 * - a connection to Ollama is open (unless connections are not to count: a client may keep one without using it).
 *
 * Models that merely lie in memory, CPU load and logged-in people do not count.
 */
import type { LoadedModel } from '../status/ollama.js';

export interface IdleSight {
  commands: number;
  /** Of each GPU, %. */
  gpuPercents: readonly number[];
  loaded: readonly LoadedModel[];
  connections: number;
}

export interface IdleBounds {
  gpuPercent: number;
  countConnections: boolean;
}

export type BusyBecause = 'command' | 'gpu' | 'model' | 'connection';

/** What must be remembered from one look to the next. */
export interface IdleMemory {
  /** Last look at which it was busy, or the first one; on the caller's clock. */
  busyMs: number;
  loaded: readonly LoadedModel[] | undefined;
}

/** Ollama unloads a moment after the time it names. */
const UNLOAD_MARGIN_MS = 15_000;
/** Ollama's times of one and the same use differ by less. */
const SAME_USE_MS = 1_000;

/** Why it is busy; undefined if it is not. `epochMs` is the time by which Ollama's are to be read. */
export function busyBecause(
  sight: IdleSight,
  before: readonly LoadedModel[] | undefined,
  { gpuPercent, countConnections }: IdleBounds,
  epochMs: number,
): BusyBecause | undefined {
  if (sight.commands > 0) return 'command';
  if (sight.gpuPercents.some((percent) => percent > gpuPercent)) return 'gpu';
  if (sight.loaded.some((model) => isUsed(model, before, epochMs))) return 'model';
  if (countConnections && sight.connections > 0) return 'connection';
  return undefined;
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
