/**
 * Pacing for a feeder in JavaScript: what load/feed.c does, for systems that are not fed by PUBLISH.
 * The feeder says how to append lines of one target; this decides when, marks the lines and reports.
 *
 *   // feed-store.mjs
 *   await paceLines(async (target, lines) => store.append(target, lines))
 *
 * Flags, in the manner of feed.c: `--redis-url`, `--targets`, `--rate` (lines/s over all targets) or
 * `--window` and `--progress`, `--seconds`, `--line-bytes`.
 */
import { openSync, readSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

const WINDOW_LINES_MIN = 64;
const WINDOW_MS = 250;
const WINDOW_STUCK_MS = 500;
const BATCH_LINES_MAX = 1024;

/** Milliseconds of CLOCK_MONOTONIC, which load.c compares with. */
const nowMs = () => Number(process.hrtime.bigint() / 1000n) / 1000;

export const feedOptions = () => {
  const { values } = parseArgs({
    options: {
      'redis-url': { type: 'string', default: '' },
      targets: { type: 'string', default: '1' },
      rate: { type: 'string', default: '0' },
      window: { type: 'string', default: '0' },
      progress: { type: 'string', default: '' },
      seconds: { type: 'string', default: '5' },
      'line-bytes': { type: 'string', default: '64' },
    },
  });
  return {
    redisUrl: values['redis-url'],
    targets: Number(values.targets),
    linesPerSecond: Number(values.rate),
    windowLines: Number(values.window),
    progressFile: values.progress,
    seconds: Number(values.seconds),
    lineBytes: Number(values['line-bytes']),
  };
};

/**
 * Ends after `--seconds` or at the end of standard input, then prints the same JSON line as feed.c.
 * @param {(target: string, lines: string[]) => Promise<unknown>} append awaited; its time holds back the next lines
 */
export const paceLines = async (append) => {
  const options = feedOptions();
  const sequences = Array.from({ length: options.targets }, () => 0);
  let published = 0;
  let ended = false;
  process.stdin.on('end', () => (ended = true)).resume();

  const publish = async (count) => {
    /** @type {Map<number, string[]>} */
    const batches = new Map();
    const micros = process.hrtime.bigint() / 1000n;
    for (let i = 0; i < count; i++) {
      const target = published++ % options.targets;
      const line = `#${target}:${++sequences[target]}#@${micros}@ `.padEnd(options.lineBytes, '.');
      const lines = batches.get(target);
      if (lines) lines.push(line);
      else batches.set(target, [line]);
    }
    await Promise.all([...batches].map(([target, lines]) => append(`bench-${target}`, lines)));
  };

  const startMs = nowMs();
  const endMs = startMs + options.seconds * 1000;
  await (options.linesPerSecond > 0 ? paced() : windowed());
  const usage = process.cpuUsage();
  console.log(
    JSON.stringify({
      published,
      perTarget: sequences,
      seconds: (nowMs() - startMs) / 1000,
      cpuSeconds: (usage.user + usage.system) / 1e6,
    }),
  );
  process.exit(0);

  async function paced() {
    const lineMs = 1000 / options.linesPerSecond;
    for (let now = nowMs(); now < endMs && !ended; now = nowMs()) {
      const due = Math.floor((now - startMs) / lineMs) + 1;
      if (due > published) await publish(due - published);
      await sleep(Math.max(1, startMs + published * lineMs - nowMs()));
    }
  }

  async function windowed() {
    const file = openSync(options.progressFile, 'r');
    const bytes = new BigUint64Array(1);
    const readSeen = () => (readSync(file, bytes, 0, 8, 0) === 8 ? Number(bytes[0]) : 0);
    let seen = readSeen();
    let from = seen;
    let window = WINDOW_LINES_MIN;
    let movedMs = startMs;
    let sample = { atMs: startMs, seen };
    for (let now = nowMs(); now < endMs && !ended; now = nowMs()) {
      const latest = readSeen();
      if (latest !== seen) {
        seen = latest;
        movedMs = now;
        from = Math.max(from, seen);
      }
      if (now - sample.atMs >= WINDOW_MS / 2) {
        const lines = ((seen - sample.seen) * WINDOW_MS) / (now - sample.atMs);
        window = Math.floor(Math.min(options.windowLines, Math.max(WINDOW_LINES_MIN, lines)));
        sample = { atMs: now, seen };
      }
      const room = from + window - published;
      if (room >= window / 8) {
        await publish(Math.min(room, BATCH_LINES_MAX));
      } else if (now - movedMs > WINDOW_STUCK_MS) {
        from = published;
        movedMs = now;
      } else {
        await sleep(1);
      }
    }
  }
};
