/**
 * Feeds our own gateway: the runner's data path without a script. Lines are appended to the targets' logs in batches,
 * as a runner does, and so reach the gateway by Redis' own publish.
 */
import { Keys, encodeEntry } from '@carrierarr/protocol';
import { CommandStore, defineScripts } from '@carrierarr/store';
import { Redis } from 'ioredis';
import { feedOptions, paceLines } from './pace.mjs';

const { redisUrl, targets } = feedOptions();
const connection = new Redis(redisUrl);
defineScripts(connection);
const store = new CommandStore({
  connection,
  keys: new Keys('carrierarr'),
  history: { entriesMax: 200_000, bytesMax: 64 * 1024 * 1024, ageMaxMs: 3_600_000, executionsMs: 3_600_000 },
  queueLengthMax: 100,
  pendingTargetsMax: 100_000,
  idempotencyMs: 60_000,
});
const runner = { id: 'bench', incarnation: String(process.pid) };

/** Holds a target as a runner does while a script runs, whoever held it in the run before. @param {string} target */
const hold = async (target) => {
  const left = await store.lease(target);
  if (left?.state === 'running') await store.reap(left, 0, { anyBeat: true });
  await store.submit({ target, command: 'x', args: [], subject: 's', address: '', gateway: '', idempotent: false });
  const claim = await store.claim(target, runner);
  if (claim.kind !== 'claimed') throw new Error(`${target}: ${JSON.stringify(claim)}`);
  return { execution: claim.execution.id, fence: claim.fence, sequence: 0 };
};
/** @type {Map<string, Awaited<ReturnType<typeof hold>>>} */
const held = new Map();
for (let i = 0; i < targets; i++) held.set(`bench-${i}`, await hold(`bench-${i}`));

await paceLines(async (target, lines) => {
  const holding = held.get(target);
  if (!holding) throw new Error(target);
  const sequence = ++holding.sequence;
  const entry = encodeEntry({
    kind: 'lines',
    execution: holding.execution,
    sequence,
    timeMs: Date.now(),
    runs: [{ stream: 'o', lines: lines.length }],
    body: Buffer.from(lines.join('\n')),
  });
  const answer = await store.append(target, holding.fence, sequence, lines.length, entry);
  if (answer.kind !== 'ok') throw new Error(`${target}: ${JSON.stringify(answer)}`);
});
