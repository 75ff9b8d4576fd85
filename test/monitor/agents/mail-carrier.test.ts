import { createLogger, createMetrics, FakeClock } from '@carrierarr/platform';
import { type AgentRequest, Keys } from '@carrierarr/protocol';
import type { ControlMessage } from '@carrierarr/protocol/agent-control';
import { AgentMail, type CommandStore, defineScripts, type Lease } from '@carrierarr/store';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { AgentStream } from '../../../apps/monitor/src/agents/agent-stream.js';
import { LocalStreams } from '../../../apps/monitor/src/agents/local-streams.js';
import { MailCarrier } from '../../../apps/monitor/src/agents/mail-carrier.js';
import { createAgentMetrics } from '../../../apps/monitor/src/agents/metrics.js';
import { startRedis, type TestRedis } from '../../support/redis.js';

let redis: TestRedis;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

const request: AgentRequest = {
  ...{ execution: 'x1', target: 'w1', fence: 7, type: 'EXEC', args: { cmd: 'true' }, argv: ['true'] },
  ...{ timeout_seconds: 0, kill_grace_ms: 1, outage_grace_ms: 1, output_bytes_max: 1 },
};

describe('mail whose runner holds its target no more', () => {
  it.each([
    ['is dropped', false, 1],
    ['is not called dropped if its runner has just taken it away', true, 0],
  ])('%s', async (_, isTaken, dropped) => {
    const connection = redis.client();
    defineScripts(connection);
    const mail = new AgentMail({ connection, keys: new Keys(`t${dropped}`) });
    await mail.put('n1', request);
    const levels = { streams: () => 0, mailOpen: () => 0, resultsWaiting: () => 0 };
    const registry = createMetrics({ program: 't', version: '0', hasProcessMetrics: false });
    const metrics = createAgentMetrics(registry, levels);
    const carrier = new MailCarrier({
      ...{ mail, metrics, streams: new LocalStreams(), clock: new FakeClock() },
      logger: createLogger({ program: 't', level: 'silent' }),
      store: {
        // It is asked after the mail was read.
        lease: async () => {
          if (isTaken) await mail.remove('x1', 7);
          return undefined;
        },
      },
    });
    await carrier.sweep();
    expect(await mail.look('x1')).toEqual({ kind: 'gone' });
    expect((await metrics.mailDropped.get()).values[0]?.value).toBe(dropped);
  });
});

let installations = 0;

/** A monitor's carrier with one open stream; `lease`: who has a target, as often as it is asked. */
function carrierOf(lease: CommandStore['lease'], { streamsCommands = true } = {}) {
  const connection = redis.client();
  defineScripts(connection);
  const keys = new Keys(`n${++installations}`);
  const mail = new AgentMail({ connection, keys });
  const asked: string[] = [];
  const sent: NonNullable<ControlMessage['payload']>[] = [];
  const close = vi.fn<AgentStream['close']>();
  const stream = {
    identity: { key: 'n1', name: 'n1', fence: 1, streamsCommands },
    ...{ isClosed: false, isBackedUp: false },
    send: (payload: NonNullable<ControlMessage['payload']>) => sent.push(payload) > 0,
    close,
  } as Partial<AgentStream> as AgentStream;
  const streams = new LocalStreams();
  streams.add(stream);
  streams.name(stream, ['n1']);
  const clock = new FakeClock();
  const registry = createMetrics({ program: 't', version: '0', hasProcessMetrics: false });
  const metrics = createAgentMetrics(registry, { streams: () => 1, mailOpen: () => 0, resultsWaiting: () => 0 });
  const carrier = new MailCarrier({
    ...{ mail, metrics, streams, clock, logger: createLogger({ program: 't', level: 'silent' }) },
    store: {
      lease: (target) => {
        asked.push(target);
        return lease(target);
      },
    },
  });
  carrier.opened(stream, []);
  const commands = () => sent.flatMap((each) => (each.$case === 'command' ? [each.value.commandId] : []));
  return { connection, keys, mail, carrier, clock, stream, close, asked, sent, commands, ready: () => carrier.sweep() };
}

const leaseOf = ({ target, execution, fence }: AgentRequest): Lease => ({
  ...{ target, execution, fence, state: 'running', runner: 'r', incarnation: 'i', beat: '0', closedUntilMs: 0 },
});

describe('news of a mail', () => {
  it('that nobody looked at has it sent, and who has its target is asked at the same time', async () => {
    const home = carrierOf(async (target) => {
      // The request is not known to this side before it counts as sent.
      states.push(await home.connection.hget(home.keys.agentMail('x1'), 'state'));
      return target === 'w1' ? leaseOf(request) : undefined;
    });
    const states: (string | null)[] = [];
    await home.ready();
    await home.mail.put('n1', request);
    await home.carrier.woken('x1', 'n1');
    expect(home.commands()).toEqual(['x1']);
    // A node's target is its name, unless its last command had another.
    expect(home.asked).toEqual(['n1', 'w1']);
    await home.mail.put('n1', { ...request, execution: 'x2' });
    await home.carrier.woken('x2', 'n1');
    expect(home.asked).toEqual(['n1', 'w1', 'w1']);
    expect(states).toEqual(['sent', 'sent', 'sent']);
  });

  it('has its agent told whether that was sent before', async () => {
    const home = carrierOf(async () => leaseOf(request));
    await home.ready();
    await home.mail.put('n1', request);
    await home.carrier.woken('x1', 'n1');
    home.clock.advance(10_000);
    await home.carrier.sweep();
    const command = (firstSending: boolean) => ({ $case: 'command', value: { commandId: 'x1', firstSending } });
    expect(home.sent).toMatchObject([command(true), command(false)]);
  });

  it('whose runner has lost its target drops it unsent', async () => {
    const home = carrierOf(async () => undefined);
    await home.ready();
    await home.mail.put('n1', request);
    await home.carrier.woken('x1', 'n1');
    expect(home.commands()).toEqual([]);
    expect(await home.mail.look('x1')).toEqual({ kind: 'gone' });
  });

  it.each([
    ['another execution has', { execution: 'x0' }],
    ['another attempt has', { fence: 8 }],
    ['is closed', { state: 'closed' as const }],
  ])('whose target %s drops it unsent', async (_, held) => {
    const home = carrierOf(async () => ({ ...leaseOf(request), ...held }));
    await home.ready();
    await home.mail.put('n1', request);
    await home.carrier.woken('x1', 'n1');
    expect(home.commands()).toEqual([]);
  });

  it('is looked at again if who has its target could not be asked', async () => {
    let isAway = true;
    const home = carrierOf(async () => {
      if (isAway) throw new Error('away');
      return leaseOf(request);
    });
    await home.ready();
    await home.mail.put('n1', request);
    await home.carrier.woken('x1', 'n1');
    expect(home.commands()).toEqual([]);
    isAway = false;
    await home.carrier.sweep();
    expect(home.commands()).toEqual(['x1']);
  });

  it('that is killed already has its runner told that it was never sent, as that attempt', async () => {
    const home = carrierOf(async () => leaseOf(request));
    await home.ready();
    await home.mail.put('n1', request);
    await home.mail.kill('x1');
    const answer = vi.spyOn(home.mail, 'answer');
    await home.carrier.woken('x1', 'n1');
    expect(home.commands()).toEqual([]);
    expect(await home.mail.look('x1')).toMatchObject({ kind: 'ended', result: { end: 'cancelled' } });
    expect(answer).toHaveBeenCalledWith('x1', 7, expect.anything());
  });

  it.each(['has ended', 'is dropped'])(
    'of a command that %s leaves nothing under way: its agent may stay without Redis',
    async (how) => {
      const home = carrierOf(async () => (how === 'is dropped' ? undefined : leaseOf(request)));
      await home.ready();
      await home.mail.put('n1', request);
      await home.carrier.woken('x1', 'n1');
      if (how === 'has ended') {
        home.carrier.ended(home.stream, 'x1');
        await home.mail.remove('x1', 7);
        await home.carrier.woken('x1', 'n1');
      }
      home.clock.advance(31_000);
      await home.carrier.sweep();
      expect(home.close).not.toHaveBeenCalled();
    },
  );

  it('of a command that runs has its agent sent away once Redis was out of reach for long', async () => {
    const home = carrierOf(async () => leaseOf(request));
    await home.ready();
    await home.mail.put('n1', request);
    await home.carrier.woken('x1', 'n1');
    home.clock.advance(31_000);
    await home.carrier.sweep();
    expect(home.close).toHaveBeenCalledOnce();
  });

  it('for an agent in use today leaves it unsent until its target is known to be its own', async () => {
    let held: string | null = null;
    const home = carrierOf(
      async () => {
        held = await home.connection.hget(home.keys.agentMail('x1'), 'state');
        return leaseOf(request);
      },
      { streamsCommands: false },
    );
    await home.ready();
    await home.mail.put('n1', request);
    await home.carrier.woken('x1', 'n1');
    expect(home.commands()).toEqual(['x1']);
    expect(held).toBe('waiting');
  });
});
