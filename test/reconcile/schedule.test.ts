/** Windows of a schedule: open or not, until when, on which clock. */
import { checkSchedule, scheduleAt } from '@carrierarr/reconcile';
import { describe, expect, it } from 'vitest';

const at = (text: string) => Date.parse(text);
const open = (schedule: Parameters<typeof scheduleAt>[0], text: string) => scheduleAt(schedule, at(text));
const office = { timeZone: 'Europe/Berlin', windows: [{ start: '0 8 * * 1-5', duration: '10h' }] };

describe('a window', () => {
  it('is open from its start, in the time zone of the schedule', () => {
    expect(open(office, '2026-06-01T05:59:59.999Z')).toEqual({ open: false, changesAtMs: at('2026-06-01T06:00:00Z') });
    expect(open(office, '2026-06-01T06:00:00Z')).toEqual({
      open: true,
      openedAtMs: at('2026-06-01T06:00:00Z'),
      changesAtMs: at('2026-06-01T16:00:00Z'),
    });
  });

  it('is closed from its end', () => {
    expect(open(office, '2026-06-01T15:59:59.999Z').open).toBe(true);
    expect(open(office, '2026-06-01T16:00:00Z')).toEqual({ open: false, changesAtMs: at('2026-06-02T06:00:00Z') });
  });

  it('knows the weekend', () => {
    expect(open(office, '2026-06-05T17:00:00Z')).toEqual({ open: false, changesAtMs: at('2026-06-08T06:00:00Z') });
  });

  it('opens at the same hour on the clock in winter', () => {
    expect(open(office, '2026-01-05T06:30:00Z')).toEqual({ open: false, changesAtMs: at('2026-01-05T07:00:00Z') });
  });

  it('may begin on one day and end on the next', () => {
    const nights = { timeZone: 'UTC', windows: [{ start: '0 22 * * *', duration: '8h' }] };
    expect(open(nights, '2026-06-02T05:00:00Z')).toMatchObject({ openedAtMs: at('2026-06-01T22:00:00Z') });
    expect(open(nights, '2026-06-02T06:00:00Z').open).toBe(false);
  });
});

describe('when the clocks change', () => {
  // Berlin: 2026-03-29 02:00 becomes 03:00, 2026-10-25 03:00 becomes 02:00.
  const nights = { timeZone: 'Europe/Berlin', windows: [{ start: '0 22 * * *', duration: '8h' }] };

  it.each([
    ['spring', '2026-03-28T21:00:00Z', '2026-03-29T05:00:00Z'],
    ['autumn', '2026-10-24T20:00:00Z', '2026-10-25T04:00:00Z'],
  ])('in %s, a window lasts as long as its duration says', (_, start, end) => {
    expect(open(nights, start)).toEqual({ open: true, openedAtMs: at(start), changesAtMs: at(end) });
  });

  it.each([
    ['right after the hour that is left out, for what falls into it', '2026-03-29T01:30:00Z', '2026-03-29T03:30:00Z'],
    ['once, for what falls into the hour that comes twice', '2026-10-25T00:30:00Z', '2026-10-25T02:30:00Z'],
  ])('opens %s', (_, start, end) => {
    const early = { timeZone: 'Europe/Berlin', windows: [{ start: '30 2 * * *', duration: '2h' }] };
    for (let timeMs = at(start) - 7_200_000; timeMs < at(end) + 7_200_000; timeMs += 600_000)
      expect(scheduleAt(early, timeMs).open).toBe(timeMs >= at(start) && timeMs < at(end));
  });

  it('says the same whenever and however often it was asked before', () => {
    const times = [
      '2026-06-01T06:00:00Z',
      '2026-05-31T06:00:00Z',
      '2026-06-01T15:59:59Z',
      '2026-06-01T16:00:00Z',
      '2026-06-01T06:00:00Z',
    ];
    expect(times.map((time) => open(office, time).open)).toEqual([true, false, true, false, true]);
  });
});

describe('several windows', () => {
  it('that overlap are one, which opened last with the later', () => {
    const both = {
      timeZone: 'UTC',
      windows: [
        { start: '0 8 * * *', duration: '4h' },
        { start: '0 10 * * *', duration: '4h' },
      ],
    };
    expect(open(both, '2026-06-01T09:00:00Z')).toMatchObject({
      openedAtMs: at('2026-06-01T08:00:00Z'),
      changesAtMs: at('2026-06-01T14:00:00Z'),
    });
    expect(open(both, '2026-06-01T11:00:00Z')).toMatchObject({
      openedAtMs: at('2026-06-01T10:00:00Z'),
      changesAtMs: at('2026-06-01T14:00:00Z'),
    });
  });

  it('that follow each other without a gap are one', () => {
    const both = {
      timeZone: 'UTC',
      windows: [
        { start: '0 8 * * *', duration: '2h' },
        { start: '0 10 * * *', duration: '2h' },
      ],
    };
    expect(open(both, '2026-06-01T09:00:00Z')).toMatchObject({ changesAtMs: at('2026-06-01T12:00:00Z') });
  });

  it('of the same expression may overlap themselves', () => {
    const long = { timeZone: 'UTC', windows: [{ start: '0 0 * * 1,2', duration: '36h' }] };
    expect(open(long, '2026-06-01T12:00:00Z')).toMatchObject({ open: true, changesAtMs: at('2026-06-03T12:00:00Z') });
  });

  it('that never close make it say when to look again', () => {
    const always = { timeZone: 'UTC', windows: [{ start: '0 * * * *', duration: '1h' }] };
    const now = open(always, '2026-06-01T12:30:00Z');
    expect(now.open && now.changesAtMs > at('2026-06-02T12:30:00Z')).toBe(true);
  });
});

describe('checkSchedule', () => {
  const check = (start: string, over: { timeZone?: string; duration?: string } = {}) =>
    checkSchedule({ timeZone: over.timeZone ?? 'UTC', windows: [{ start, duration: over.duration ?? '1h' }] });

  it.each(['0 8 * * 1-5', '*/15 8-18 * * MON-FRI', '0 0 29 2 *', '30 2 1,15 * *'])('accepts %s', (start) => {
    expect(check(start)).toBeUndefined();
  });

  it.each([
    '',
    'daily',
    '@daily',
    '* * *',
    '0 0 8 * * *',
    '61 8 * * *',
    '0 25 * * *',
    '0 0 31 2 *',
    'H 8 * * *',
    'H/5 8 * * *',
  ])('refuses %j, and says what it got', (start) => {
    expect(check(start)).toContain(`got ${JSON.stringify(start)}`);
  });

  it('refuses a time zone that does not exist', () => {
    expect(check('0 8 * * *', { timeZone: 'Europe/Bonn' })).toBe(
      'timeZone: expected an IANA name such as Europe/Berlin or UTC, got "Europe/Bonn"',
    );
  });

  it('refuses a window that is never open', () => {
    expect(check('0 8 * * *', { duration: '0s' })).toContain('windows[0].duration');
  });

  it('is refused when its windows are open for longer than a year, as no calendar holds their end', () => {
    expect(check('0 8 * * *', { duration: '8784h' })).toBeUndefined();
    expect(check('0 8 * * *', { duration: '8784h1s' })).toContain('windows[0].duration');
    expect(check('0 8 * * *', { duration: '99999999999h' })).toContain('"99999999999h"');
  });
});
