/**
 * Whether a worker's windows are open now, and when that changes. A window opens when its cron expression says, in
 * the schedule's time zone (on a day whose clocks change, too: what falls into the hour that is left out opens right
 * after it, what falls into the hour that comes twice opens once), and stays open for its duration as a stopwatch
 * counts it: eight hours are eight hours on every day. Windows may overlap; then the schedule is open while any is.
 */
import { durationMsOf, type Schedule } from '@carrierarr/protocol';
import { type CronExpression, CronExpressionParser } from 'cron-parser';

/** Windows that follow each other without a gap are looked at this far; then "look again" is the answer. */
const CHAINED_STARTS_MAX = 200;
/** The clocks of no zone change by more. */
const CLOCK_CHANGE_MAX_MS = 3 * 60 * 60_000;
const HOUR_MS = 3_600_000;
/** Longest window: a year. The end of one that is open for ages is no date. */
const WINDOW_MS_MAX = 366 * 24 * HOUR_MS;
/** Schedules whose present answer is remembered: cron costs milliseconds, and pools share schedules. */
const REMEMBERED_MAX = 1_000;

export type ScheduleNow =
  /** `openedAtMs`: start of the window that opened last. `changesAtMs`: it is open at least until then. */
  | { open: true; openedAtMs: number; changesAtMs: number }
  /** `changesAtMs`: the next opening; undefined if there is none any more. */
  | { open: false; changesAtMs: number | undefined };

interface Window {
  start: string;
  durationMs: number;
}

/** Answers by schedule, each good for a stretch of time; forgetting them changes nothing but the cost. */
const remembered = new Map<string, { fromMs: number; untilMs: number; now: ScheduleNow }>();
const checked = new Map<string, string | undefined>();

/** What is wrong with a schedule, as a sentence that names the value; undefined if it is fine. */
export function checkSchedule(schedule: Schedule): string | undefined {
  const key = JSON.stringify(schedule);
  if (checked.has(key)) return checked.get(key);
  const problem = problemOf(schedule);
  remember(checked, key, problem);
  return problem;
}

function problemOf({ timeZone, windows }: Schedule): string | undefined {
  if (!isTimeZone(timeZone))
    return `timeZone: expected an IANA name such as Europe/Berlin or UTC, got ${JSON.stringify(timeZone)}`;
  for (const [index, { start, duration }] of windows.entries()) {
    const got = `windows[${index}].start: expected a cron expression of five fields such as "0 8 * * 1-5", got ${JSON.stringify(start)}`;
    if (start.trim().split(/\s+/).length !== 5) return got;
    // `H` asks the parser for a random value: it would be another one each time.
    if (/(^|[\s,/-])H/.test(start)) return `${got} (H, a value drawn at random, is not supported)`;
    try {
      cron(start, timeZone, 0).next();
    } catch (error) {
      return `${got} (${error instanceof Error ? error.message : String(error)})`;
    }
    const durationMs = durationMsOf(duration);
    if (durationMs <= 0 || durationMs > WINDOW_MS_MAX)
      return `windows[${index}].duration: expected a duration above zero and at most ${WINDOW_MS_MAX / HOUR_MS}h (a year), got ${JSON.stringify(duration)}`;
  }
  return undefined;
}

/** The schedule at a time. Means nothing for a schedule that {@link checkSchedule} finds fault with. */
export function scheduleAt(schedule: Schedule, nowMs: number): ScheduleNow {
  const key = JSON.stringify(schedule);
  const known = remembered.get(key);
  if (known !== undefined && known.fromMs <= nowMs && nowMs < known.untilMs) return known.now;
  const windows = schedule.windows.map(({ start, duration }) => ({ start, durationMs: durationMsOf(duration) }));
  const nextStartMs = Math.min(...windows.map(({ start }) => firstStartMs(start, schedule.timeZone, nowMs)));
  const now = computed(schedule.timeZone, windows, nowMs, nextStartMs);
  // Nothing changes before a window opens, or the last one closes.
  const untilMs = Math.min(now.changesAtMs ?? Infinity, nextStartMs);
  remember(remembered, key, { fromMs: nowMs, untilMs, now });
  return now;
}

function computed(timeZone: string, windows: Window[], nowMs: number, nextStartMs: number): ScheduleNow {
  const lasts = windows.map((window) => lastStartMs(window.start, timeZone, nowMs));
  const opened = lasts.filter((lastMs, index) => nowMs < lastMs + (windows[index]?.durationMs ?? 0));
  if (opened.length === 0) return { open: false, changesAtMs: nextStartMs === Infinity ? undefined : nextStartMs };
  const endMs = Math.max(...lasts.map((lastMs, index) => lastMs + (windows[index]?.durationMs ?? 0)));
  return { open: true, openedAtMs: Math.max(...opened), changesAtMs: endOfChainMs(timeZone, windows, nowMs, endMs) };
}

/** When the windows that are open now, and those that open before these close, are all closed. */
function endOfChainMs(timeZone: string, windows: Window[], nowMs: number, openUntilMs: number): number {
  const coming = windows.map(({ start, durationMs }) => {
    const expression = cron(start, timeZone, nowMs);
    return { expression, durationMs, startMs: at(() => expression.next().getTime()) };
  });
  let endMs = openUntilMs;
  for (let starts = 0; starts < CHAINED_STARTS_MAX; starts += 1) {
    // A window that starts exactly as another ends continues it.
    const next = coming.reduce((a, b) => (b.startMs < a.startMs ? b : a));
    if (next.startMs > endMs) break;
    endMs = Math.max(endMs, next.startMs + next.durationMs);
    next.startMs = at(() => next.expression.next().getTime());
  }
  return endMs;
}

/** The first start after a time; Infinity if there is none. */
function firstStartMs(expression: string, timeZone: string, nowMs: number): number {
  return at(() => cron(expression, timeZone, nowMs).next().getTime());
}

/**
 * The last start at or before a time; -Infinity if there is none. Looking forward and looking back, the parser takes
 * different starts on days whose clocks change: only those found looking forward count.
 */
function lastStartMs(expression: string, timeZone: string, nowMs: number): number {
  let backMs: number;
  try {
    backMs = cron(expression, timeZone, nowMs + 1)
      .prev()
      .getTime();
  } catch {
    return -Infinity;
  }
  const forward = cron(expression, timeZone, backMs - CLOCK_CHANGE_MAX_MS);
  let lastMs = -Infinity;
  for (let startMs = at(() => forward.next().getTime()); startMs <= nowMs; startMs = at(() => forward.next().getTime()))
    lastMs = startMs;
  return lastMs;
}

function cron(expression: string, timeZone: string, currentMs: number): CronExpression {
  return CronExpressionParser.parse(expression, { tz: timeZone, currentDate: new Date(currentMs) });
}

/** The parser gives up with an error when it finds nothing within its bounds: then there is none. */
function at(find: () => number): number {
  try {
    return find();
  } catch {
    return Infinity;
  }
}

function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}

function remember<T>(cache: Map<string, T>, key: string, value: T): void {
  const oldest = cache.size >= REMEMBERED_MAX ? cache.keys().next() : undefined;
  if (oldest?.done === false) cache.delete(oldest.value);
  cache.set(key, value);
}
