import { createLogger, createMetrics, FakeClock } from '@carrierarr/platform';
import { type AgentRequest, Keys } from '@carrierarr/protocol';
import { AgentMail, defineScripts } from '@carrierarr/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
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
