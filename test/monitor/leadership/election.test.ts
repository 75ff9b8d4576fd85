import { randomBytes } from 'node:crypto';
import { createLogger, createMetrics, FakeClock } from '@carrierarr/platform';
import { Keys } from '@carrierarr/protocol';
import { defineScripts, DeposedError, Leadership } from '@carrierarr/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  CAMPAIGN_MS,
  Election,
  FAILED_TERM_REST_MS,
  RENEW_MS,
  type Term,
  TERM_MS,
} from '../../../apps/monitor/src/leader/election.js';
import { LeaderChannel } from '../../../apps/monitor/src/leader/leader-channel.js';
import { createElectionMetrics } from '../../../apps/monitor/src/leader/metrics.js';
import { metricValues } from '../../support/metric.js';
import { startRedis, type TestRedis } from '../../support/redis.js';
import { until } from '../../support/until.js';

const logger = createLogger({ program: 'test', level: 'silent' });

/** What a monitor's terms do here: nothing, until their signal. */
function setUp(leadership: Pick<Leadership, 'hold' | 'raise' | 'release'>, holder: string, clock: FakeClock) {
  const registry = createMetrics({ program: 'test', version: 'test', hasProcessMetrics: false });
  const terms: Term[] = [];
  /** Lets the end of a term's work wait. */
  const work = { ended: Promise.resolve(), fails: false };
  const election = new Election({
    ...{ leadership, holder, clock, logger, metrics: createElectionMetrics(registry) },
    async lead(term) {
      terms.push(term);
      if (work.fails) throw new Error('broken');
      await new Promise((resolve) => term.signal.addEventListener('abort', resolve));
      await work.ended;
    },
  });
  const metric = async (name: string) => (await metricValues(registry, `carrierarr_monitor_${name}`))[0]?.value;
  return { election, terms, work, metric };
}

/** A lease whose answers the test gives. */
class FakeLease {
  calls: string[] = [];
  answer: () => ReturnType<Leadership['hold']> = async () => ({ leads: true, fence: 7 });
  raised: () => Promise<void> = async () => {};

  hold(holder: string) {
    this.calls.push(`hold ${holder}`);
    return this.answer();
  }
  raise(fence: number) {
    this.calls.push(`raise ${fence}`);
    return this.raised();
  }
  async release(holder: string, fence: number) {
    this.calls.push(`release ${holder} ${fence}`);
  }
}

const never = () => new Promise<never>(() => undefined);

describe('an election by a clock that stands still', () => {
  it('raises the fence everywhere before it leads', async () => {
    const [lease, clock] = [new FakeLease(), new FakeClock()];
    let raise: () => void = () => undefined;
    lease.raised = () => new Promise((resolve) => (raise = resolve));
    const { election, terms } = setUp(lease, 'a', clock);
    election.start();
    await clock.advanceAsync(100);
    expect(lease.calls).toEqual(['hold a', 'raise 7']);
    expect(terms).toHaveLength(0);
    raise();
    await clock.advanceAsync(0);
    expect(terms.map(({ fence }) => fence)).toEqual([7]);
    expect(election.fence).toBe(7);
    await election.stop();
  });

  it('asks twice a second while another leads, and at once when it hears that there is none', async () => {
    const [lease, clock] = [new FakeLease(), new FakeClock()];
    lease.answer = async () => ({ leads: false, holder: 'b', leftMs: 3_000 });
    const { election } = setUp(lease, 'a', clock);
    election.start();
    await clock.advanceAsync(3 * CAMPAIGN_MS);
    expect(lease.calls).toHaveLength(4);
    election.nudge();
    await clock.advanceAsync(0);
    expect(lease.calls).toHaveLength(5);
    await election.stop();
  });

  it('renews each second while it leads, and goes on leading', async () => {
    const [lease, clock] = [new FakeLease(), new FakeClock()];
    const { election, terms, metric } = setUp(lease, 'a', clock);
    election.start();
    await clock.advanceAsync(10 * RENEW_MS);
    expect(lease.calls.filter((call) => call === 'hold a')).toHaveLength(11);
    expect(terms).toHaveLength(1);
    expect(terms[0]?.signal.aborted).toBe(false);
    expect(await metric('leader')).toBe(1);
    await election.stop();
    expect(await metric('leader')).toBe(0);
  });

  it.each([
    ['renewals fail', () => Promise.reject(new Error('no connection'))],
    ['no answer comes', never],
  ])('stops acting by itself two seconds after the last renewal was sent, when %s', async (_what, answer) => {
    const [lease, clock] = [new FakeLease(), new FakeClock()];
    const { election, terms } = setUp(lease, 'a', clock);
    election.start();
    await clock.advanceAsync(RENEW_MS);
    lease.answer = answer;
    await clock.advanceAsync(TERM_MS - 1);
    expect(terms[0]?.signal.aborted).toBe(false);
    await clock.advanceAsync(1);
    expect(terms[0]?.signal.aborted).toBe(true);
    expect(election.fence).toBeUndefined();
  });

  it('counts the two seconds from the question, not from the answer', async () => {
    const [lease, clock] = [new FakeLease(), new FakeClock()];
    const { election, terms } = setUp(lease, 'a', clock);
    election.start();
    await clock.advanceAsync(0);
    let answerNow: () => void = () => undefined;
    lease.answer = () => new Promise((resolve) => (answerNow = () => resolve({ leads: true, fence: 7 })));
    await clock.advanceAsync(RENEW_MS + 800);
    lease.answer = never;
    answerNow();
    // Asked at 1000, answered at 1800: good until 3000.
    await clock.advanceAsync(1_199);
    expect(terms[0]?.signal.aborted).toBe(false);
    await clock.advanceAsync(1);
    expect(terms[0]?.signal.aborted).toBe(true);
  });

  it('ends its term when another leads, or when the lease is its own under another number', async () => {
    const answers = [
      { leads: false, holder: 'b', leftMs: 100 },
      { leads: true, fence: 8 },
    ] as const;
    for (const answer of answers) {
      const [lease, clock] = [new FakeLease(), new FakeClock()];
      const { election, terms } = setUp(lease, 'a', clock);
      election.start();
      await clock.advanceAsync(0);
      lease.answer = async () => answer;
      await clock.advanceAsync(RENEW_MS);
      expect(terms[0]?.signal.aborted).toBe(true);
      await clock.advanceAsync(CAMPAIGN_MS);
      expect(terms.map(({ fence }) => fence)).toEqual(answer.leads ? [7, 8] : [7]);
      await election.stop();
    }
  });

  it('ends its term when one of its writes was refused', async () => {
    const [lease, clock] = [new FakeLease(), new FakeClock()];
    const { election, terms } = setUp(lease, 'a', clock);
    election.start();
    await clock.advanceAsync(0);
    lease.answer = async () => ({ leads: false, holder: 'b', leftMs: 3_000 });
    terms[0]?.deposed(new DeposedError(7, '8'));
    expect(terms[0]?.signal.aborted).toBe(true);
    await clock.advanceAsync(0);
    expect(election.fence).toBeUndefined();
    await election.stop();
    expect(lease.calls.filter((call) => call.startsWith('release'))).toEqual([]);
  });

  it('does not begin a term before the last one has ended in all its parts', async () => {
    const [lease, clock] = [new FakeLease(), new FakeClock()];
    const { election, terms, work } = setUp(lease, 'a', clock);
    let end: () => void = () => undefined;
    work.ended = new Promise((resolve) => (end = resolve));
    election.start();
    await clock.advanceAsync(0);
    terms[0]?.deposed(new DeposedError(7, '8'));
    const asked = lease.calls.length;
    await clock.advanceAsync(10 * CAMPAIGN_MS);
    expect(lease.calls).toHaveLength(asked);
    expect(terms).toHaveLength(1);
    end();
    await clock.advanceAsync(CAMPAIGN_MS);
    expect(terms).toHaveLength(2);
    await election.stop();
  });

  it('gives the lease back when leading fails, and rests before it tries again', async () => {
    const [lease, clock] = [new FakeLease(), new FakeClock()];
    const { election, terms, work } = setUp(lease, 'a', clock);
    work.fails = true;
    election.start();
    await clock.advanceAsync(0);
    expect(lease.calls).toContain('release a 7');
    await clock.advanceAsync(FAILED_TERM_REST_MS - 1);
    expect(terms).toHaveLength(1);
    work.fails = false;
    await clock.advanceAsync(CAMPAIGN_MS);
    expect(terms).toHaveLength(2);
    await election.stop();
  });

  it('gives up a lease that took so long to take that it may be over', async () => {
    const [lease, clock] = [new FakeLease(), new FakeClock()];
    let raise: () => void = () => undefined;
    lease.raised = () => new Promise((resolve) => (raise = resolve));
    const { election, terms } = setUp(lease, 'a', clock);
    election.start();
    await clock.advanceAsync(TERM_MS);
    raise();
    await clock.advanceAsync(0);
    expect(terms).toHaveLength(0);
    lease.raised = async () => {};
    await clock.advanceAsync(CAMPAIGN_MS);
    expect(terms).toHaveLength(1);
    await election.stop();
  });

  it('stops acting before it gives the lease back, and does not wait for what is under way', async () => {
    const [lease, clock] = [new FakeLease(), new FakeClock()];
    const { election, terms, work } = setUp(lease, 'a', clock);
    let end: () => void = () => undefined;
    work.ended = new Promise((resolve) => (end = resolve));
    election.start();
    await clock.advanceAsync(0);
    const wasOver: (boolean | undefined)[] = [];
    lease.release = async () => void wasOver.push(terms[0]?.signal.aborted);
    const stopped = election.stop().then(() => 'stopped');
    await clock.advanceAsync(0);
    expect(wasOver).toEqual([true]);
    expect(await Promise.race([stopped, Promise.resolve('not yet')])).toBe('not yet');
    end();
    expect(await stopped).toBe('stopped');
    await clock.advanceAsync(10 * CAMPAIGN_MS);
    expect(terms).toHaveLength(1);
  });

  it('gives back a lease that it got while it was stopping', async () => {
    const [lease, clock] = [new FakeLease(), new FakeClock()];
    let answerNow: () => void = () => undefined;
    lease.answer = () => new Promise((resolve) => (answerNow = () => resolve({ leads: true, fence: 9 })));
    const { election, terms } = setUp(lease, 'a', clock);
    election.start();
    await clock.advanceAsync(0);
    const stopped = election.stop();
    answerNow();
    await stopped;
    expect(lease.calls).toEqual(['hold a', 'release a 9']);
    expect(terms).toHaveLength(0);
  });
});

describe('an election in Redis', () => {
  let redis: TestRedis;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.stop());

  function candidates(count: number) {
    const keys = new Keys(`t${randomBytes(4).toString('hex')}`);
    return Array.from({ length: count }, (_, n) => {
      const connection = redis.client();
      defineScripts(connection);
      const clock = new FakeClock();
      const one = setUp(new Leadership({ connection, keys }), `m${n}`, clock);
      const subscriber = redis.client();
      const channel = new LeaderChannel({
        ...{ connection: subscriber, keys, onVacancy: () => one.election.nudge(), onTrouble: () => undefined },
      });
      return { ...one, clock, channel, keys, subscriber };
    });
  }

  it('is won by one of several, and by another within moments of its end, with a higher fence', async () => {
    const all = candidates(3);
    for (const { channel, election } of all) {
      channel.start();
      election.start();
    }
    const leaders = () => all.filter(({ election }) => election.fence !== undefined);
    const [first] = await until('a leader', () => leaders().length === 1 && leaders());
    const look = redis.client();
    await until('the standbys to listen', async () => {
      const channel = all[0]?.keys.leaderChannel() ?? '';
      const [, count] = (await look.call('pubsub', 'shardnumsub', channel)) as [string, number];
      return count === 3;
    });
    const before = first?.election.fence ?? 0;
    // No clock is moved from here on: it is the channel that tells them.
    await first?.election.stop();
    const [second] = await until('another leader', () => leaders().length === 1 && leaders());
    expect(second).not.toBe(first);
    expect(second?.election.fence).toBeGreaterThan(before);
    for (const { channel, election } of all) {
      channel.stop();
      await election.stop();
    }
  });
});
