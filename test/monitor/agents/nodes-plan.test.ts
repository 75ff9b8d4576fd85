import type { NodeRecord, NodeStatusRecord, WorkerRecord } from '@carrierarr/protocol';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  factsIn,
  factsOf,
  IDLE_JITTER_MS,
  MOVING_MS,
  withAgent,
  withoutAgent,
} from '../../../apps/monitor/src/agents/nodes/agent-facts.js';
import {
  FORGET_MS,
  inheritedMemory,
  type NodesMemory,
  type NodesPlan,
  type NodesView,
  planNodes,
} from '../../../apps/monitor/src/agents/nodes/plan.js';

const NOW_MS = Date.UTC(2025, 0, 1);
const limits = { staleMs: 120_000, deadMs: 300_000 };

function status(fields: Partial<NodeStatusRecord> = {}): NodeStatusRecord {
  return {
    ...{ health: 'HEALTH_STATE_HEALTHY', uptime_seconds: 60, idle_seconds: 0, services: {}, gpus: [], models: [] },
    ...{ draining: false, received_ms: NOW_MS },
    ...fields,
  };
}
function node(key: string, fields: Partial<NodeRecord> = {}): NodeRecord {
  return { key, name: `host-${key}`, seenMs: { grpc: NOW_MS }, status: status(), ...fields };
}
function machine(id: string, fields: Partial<WorkerRecord> = {}): WorkerRecord {
  return {
    ...{ id, name: `name-${id}`, provider: 'ec2', state: 'running', target: `target-${id}`, mapped_by: 'tag:Name' },
    ...{ source: 'ec2/eu-central-1' },
    ...fields,
  };
}
function view(
  nodes: readonly NodeRecord[],
  more: Partial<NodesView> & { machines?: readonly WorkerRecord[] } = {},
): NodesView {
  const { machines = [], ...fields } = more;
  return {
    nodes: new Map(nodes.map((each) => [each.key, each])),
    isStreaming: ({ stream }) => stream !== undefined,
    workers: new Map(machines.map((each) => [each.id, each])),
    listening: { grpc: 0, amqp: 0 },
    ...{ limits, termStartMs: 0, nowMs: NOW_MS },
    ...fields,
  };
}
/** The whole plan, whatever is between its steps. */
function planned(given: NodesView, memory: NodesMemory): NodesPlan {
  const steps = planNodes(given, memory);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}
const nothing = inheritedMemory([]);
const after = (...views: NodesView[]): NodesMemory =>
  views.reduce<NodesMemory>((memory, each) => planned(each, memory).memory, nothing);
const silentFor = (ms: number) => ({ seenMs: { grpc: NOW_MS - ms } });
const kinds = ({ events }: NodesPlan) => events.map(({ kind, node: name }) => `${name} ${kind}`);

describe('the row of a node', () => {
  it('is the one of the machine with its instance id, with what the agent says', () => {
    const { upserts, removed } = planned(
      view([node('i-1', { status: status({ idle_seconds: 60 }) })], {
        machines: [machine('i-1', { health_check: 'ok' })],
      }),
      nothing,
    );
    expect(removed).toEqual([]);
    expect(upserts).toEqual([
      {
        ...machine('i-1', { health_check: 'healthy' }),
        last_heartbeat: '2025-01-01T00:00:00.000Z',
        idle_since: '2024-12-31T23:59:00.000Z',
        agent: {
          ...{ node: 'host-i-1', liveness: 'healthy', connected: false, last_seen: '2025-01-01T00:00:00.000Z' },
          ...{ type: 'NODE_TYPE_UNSPECIFIED', health: 'HEALTH_STATE_HEALTHY' },
          instead_of: { health_check: 'ok', last_heartbeat: null, idle_since: null },
        },
      },
    ]);
  });

  it('is one of its own while no source knows the machine, and that of the source as soon as one does, and back', () => {
    const alone = view([node('i-1')]);
    const { upserts } = planned(alone, nothing);
    expect(upserts).toMatchObject([
      {
        id: 'i-1',
        name: 'host-i-1',
        target: 'host-i-1',
        mapped_by: 'node',
        source: 'agents',
        provider: 'agent',
        state: 'running',
      },
    ]);
    const known = view([node('i-1')], { machines: [machine('i-1')] });
    const joined = planned(known, after(alone));
    expect(joined).toMatchObject({ upserts: [{ id: 'i-1', source: 'ec2/eu-central-1', agent: {} }], removed: [] });
    expect(planned(alone, joined.memory)).toMatchObject({ upserts: [{ id: 'i-1', source: 'agents' }], removed: [] });
  });

  it('is that of the script that manages a machine of its name, whose id is another', () => {
    const scripted = machine('host-box', { source: 'script', target: 'host-box' });
    const alone = after(view([node('box')]));
    const plan = planned(view([node('box')], { machines: [scripted] }), alone);
    expect(plan).toMatchObject({
      upserts: [{ id: 'host-box', source: 'script', agent: { node: 'host-box' } }],
      removed: ['box'],
    });
  });

  it('is that of the script that manages its instance under the name of that', () => {
    const scripted = machine('script/i-0abc', { source: 'script', target: 'i-0abc' });
    const { upserts } = planned(view([node('i-0abc')], { machines: [scripted] }), nothing);
    expect(upserts.map(({ id }) => id)).toEqual(['script/i-0abc']);
  });

  it('is given to one node only, always the same, whatever their order', () => {
    const twins = [node('a', { name: 'box' }), node('b', { name: 'box' })];
    const machines = [machine('box', { source: 'script' })];
    for (const nodes of [twins, twins.toReversed()]) {
      const { upserts } = planned(view(nodes, { machines }), nothing);
      expect(upserts.map(({ id, source }) => [id, source])).toEqual([
        ['box', 'script'],
        ['b', 'agents'],
      ]);
    }
  });

  it('goes with the node, and that of another source stays without what the agent said', () => {
    const machines = [machine('i-1')];
    const before = after(view([node('i-1'), node('i-2')], { machines }));
    const plan = planned(view([], { machines }), before);
    expect(plan).toMatchObject({ upserts: [machine('i-1')], removed: ['i-2'] });
    expect(plan.upserts[0]).not.toHaveProperty('agent');
    expect(kinds(plan)).toEqual(['host-i-1 left', 'host-i-2 left']);
  });

  it('does not change with heartbeats, statuses and load, and does some minutes later', () => {
    const busy = (ms: number, cpu: number) => {
      const resources = { cpu_percent: cpu, memory_used_mb: 1, memory_total_mb: 2, disk_used_mb: 0, disk_total_mb: 0 };
      const said = status({ received_ms: NOW_MS + ms, uptime_seconds: ms, idle_seconds: 90 + ms / 1000, resources });
      return view([node('i-1', { seenMs: { grpc: NOW_MS + ms }, status: said })], { nowMs: NOW_MS + ms });
    };
    let { memory } = planned(busy(0, 5), nothing);
    for (let ms = 30_000; ms < MOVING_MS; ms += 30_000) {
      const plan = planned(busy(ms, ms / 5_000), memory);
      expect(plan.upserts).toEqual([]);
      memory = plan.memory;
    }
    const { upserts } = planned(busy(MOVING_MS, 99), memory);
    expect(upserts).toMatchObject([
      { metrics: { cpu_percent: 99, memory_percent: 50 }, last_heartbeat: '2025-01-01T00:05:00.000Z' },
    ]);
  });

  it('changes at once with what matters', () => {
    const before = after(view([node('i-1')]));
    const change = (fields: Partial<NodeRecord>) => planned(view([node('i-1', fields)]), before).upserts;
    expect(change({ status: status({ health: 'HEALTH_STATE_DEGRADED' }) })).toMatchObject([
      { health_check: 'degraded' },
    ]);
    expect(change({ stream: { fence: 1, monitor: 'm', since_ms: 1 } })).toMatchObject([{ agent: { connected: true } }]);
    expect(change({ status: status({ draining: true }) })).toMatchObject([{ agent: { draining: true } }]);
    const interruption = { kind: 'spot', at: '2025-01-01T00:02:00Z', detail: 'terminate' };
    expect(change({ status: status({ interruption }) })).toMatchObject([
      { interruption: { kind: 'spot', at: '2025-01-01T00:02:00.000Z', detail: 'terminate' } },
    ]);
    expect(change({ status: status({ idle_seconds: 30 }) })).toMatchObject([
      { idle_since: '2024-12-31T23:59:30.000Z' },
    ]);
    expect(change({})).toEqual([]);
  });

  it('is not idle by what was said long ago, nor when it has gone silent', () => {
    const idle = status({ idle_seconds: 3_600, received_ms: NOW_MS - limits.staleMs });
    const onlyBeats = planned(view([node('i-1', { seenMs: { grpc: 1, amqp: NOW_MS }, status: idle })]), nothing);
    expect(onlyBeats.upserts[0]).toMatchObject({ agent: { liveness: 'healthy' } });
    expect(onlyBeats.upserts[0]).not.toHaveProperty('idle_since');
    const silent = planned(
      view([node('i-1', { ...silentFor(limits.staleMs), status: status({ idle_seconds: 9 }) })]),
      nothing,
    );
    expect(silent.upserts[0]).toMatchObject({ health_check: 'stale' });
    expect(silent.upserts[0]).not.toHaveProperty('idle_since');
  });

  it('keeps the begin of its idleness however often seconds are rounded, and never drifts', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 4_000 }), { maxLength: 50 }), (delays) => {
        const judged = { liveness: 'healthy', connected: true, staleMs: limits.staleMs } as const;
        const idleFromMs = NOW_MS - 1_000_000;
        let facts: ReturnType<typeof factsOf> | undefined;
        for (const [i, delayMs] of delays.entries()) {
          const sentMs = NOW_MS + i * 30_000;
          const said = status({
            received_ms: sentMs + delayMs,
            idle_seconds: Math.floor((sentMs - idleFromMs) / 1000),
          });
          facts = factsOf(node('i-1', { status: said }), { ...judged, nowMs: sentMs + delayMs }, facts);
          expect(Math.abs(facts.idleSinceMs! - idleFromMs)).toBeLessThanOrEqual(IDLE_JITTER_MS);
        }
      }),
    );
  });
});

describe('what an agent says in a row', () => {
  const text = fc.string({ maxLength: 5 });
  const time = fc.integer({ min: 1, max: NOW_MS });
  const iso = time.map((ms) => new Date(ms).toISOString());
  const metrics = fc.record({ cpu_percent: fc.nat(100), measured_at: iso }, { requiredKeys: ['measured_at'] });
  const interruption = fc.record({ kind: fc.constant('spot' as const), detail: text });
  const optional = {
    health_check: text,
    last_heartbeat: iso,
    interruption,
    metrics: fc.record({ ...{ network_in_bytes_per_second: fc.nat() }, measured_at: iso }),
    gone_at: iso,
  };
  const base = fc
    .record(optional, { requiredKeys: [] })
    .map((fields) => machine('i-1', fields as Partial<WorkerRecord>));
  const facts = fc.record({
    node: text,
    liveness: fc.constantFrom('healthy' as const, 'unhealthy' as const, 'dead' as const),
    connected: fc.boolean(),
    type: fc.constantFrom('NODE_TYPE_GPU_WORKER' as const),
    health: fc.constantFrom('HEALTH_STATE_UNSPECIFIED' as const, 'HEALTH_STATE_HEALTHY' as const),
    version: text,
    draining: fc.boolean(),
    idleSinceMs: fc.option(time, { nil: undefined }),
    interruption: fc.option(interruption, { nil: undefined }),
    seenMs: fc.oneof(fc.constant(0), time),
    metrics: fc.option(metrics, { nil: undefined }),
  });

  it('can be taken out again, exactly, also after it went through Redis', () => {
    fc.assert(
      fc.property(base, facts, (record, said) => {
        const row = JSON.parse(JSON.stringify(withAgent(record, said))) as WorkerRecord;
        expect(withoutAgent(row)).toEqual(record);
      }),
    );
  });

  it('is read by the next leader as it was written', () => {
    fc.assert(
      fc.property(base, facts, (record, said) => {
        fc.pre(record.gone_at === undefined);
        const row = JSON.parse(JSON.stringify(withAgent(record, said))) as WorkerRecord;
        expect(factsIn(row)).toEqual(said);
      }),
    );
  });
});

describe('a leader', () => {
  it('that takes over tells nothing anew', () => {
    const machines = [machine('i-1', { health_check: 'ok' })];
    const nodes = [node('i-1', { status: status({ idle_seconds: 60 }) }), node('i-2', silentFor(limits.staleMs))];
    const { upserts } = planned(view(nodes, { machines }), nothing);
    const later = view(nodes, { machines, nowMs: NOW_MS + 20_000, termStartMs: NOW_MS + 19_000 });
    const plan = planned(later, inheritedMemory(upserts));
    expect([plan.upserts, plan.removed, plan.events]).toEqual([[], [], []]);
    // Nor is it known that they were published: then they are what was.
    expect(planned(later, { ...inheritedMemory(upserts), published: new Map() }).upserts).toEqual(upserts);
    expect(planned(later, plan.memory).upserts).toEqual([]);
  });

  it('takes out what its predecessor wrote of nodes that are not there any more', () => {
    const machines = [machine('i-1')];
    const { upserts } = planned(view([node('i-1'), node('i-2')], { machines }), nothing);
    expect(planned(view([], { machines }), inheritedMemory(upserts))).toMatchObject({
      ...{ upserts: [machine('i-1')], removed: ['i-2'] },
    });
  });
});

describe('a death', () => {
  const five = ['a', 'b', 'c', 'd', 'e'];
  const dead = (...keys: string[]) => five.map((key) => node(key, keys.includes(key) ? silentFor(limits.deadMs) : {}));

  it('is told once, and is one to act on', () => {
    const before = after(view(dead()));
    const plan = planned(view(dead('a')), before);
    expect(plan).toMatchObject({
      ...{ isMassDeath: false, counts: { healthy: 4, dead: 1 } },
      deaths: [{ node: { key: 'a' }, target: 'host-a', isStreaming: false, seenMs: NOW_MS - limits.deadMs }],
      upserts: [{ id: 'a', state: 'unreachable', health_check: 'dead' }],
    });
    expect(kinds(plan)).toEqual(['host-a dead']);
    const again = planned(view(dead('a')), plan.memory);
    expect([again.upserts, again.events]).toEqual([[], []]);
    expect(again.deaths).toHaveLength(1);
    expect(kinds(planned(view(dead()), plan.memory))).toEqual(['host-a back']);
  });

  it('of more than one and a fifth at once is nothing to act on, until they are back', () => {
    const both = planned(view(dead('a', 'b')), after(view(dead())));
    expect(both).toMatchObject({ isMassDeath: true, counts: { dead: 2 } });
    const muchLater = { nowMs: NOW_MS + 3_600_000 };
    const still = five.map((key) => node(key, { seenMs: { grpc: key < 'c' ? 1 : muchLater.nowMs } }));
    const halted = planned(view(still, muchLater), both.memory);
    expect(halted.isMassDeath).toBe(true);
    const oneBack = still.map((each) => (each.key === 'b' ? node('b', { seenMs: { grpc: muchLater.nowMs } }) : each));
    expect(planned(view(oneBack, muchLater), halted.memory)).toMatchObject({
      isMassDeath: false,
      deaths: [{ node: { key: 'a' } }],
    });
  });

  it.each(['stopped', 'stopping', 'terminated', 'shutting-down', 'pending'])(
    'is none of a machine that is %s',
    (state) => {
      const plan = planned(view(dead('a'), { machines: [machine('a', { state })] }), nothing);
      expect(plan.deaths).toEqual([]);
      expect(plan.upserts[0]).toMatchObject({ state, agent: { liveness: 'dead' } });
    },
  );

  it('is none of a node that only ever sent heartbeats, such as after its goodbye', () => {
    const ghost: NodeRecord = { key: 'a', name: 'a', seenMs: { amqp: 1 } };
    expect(planned(view([ghost]), nothing)).toMatchObject({ deaths: [], counts: { dead: 1 } });
  });

  it('is none before a whole period in which this leader led and somebody listened', () => {
    const times = fc.record({ seen: fc.nat(600_000), listening: fc.nat(600_000), term: fc.nat(600_000) });
    fc.assert(
      fc.property(times, ({ seen, listening, term }) => {
        const plan = planned(
          view([node('a', silentFor(seen))], { listening: { grpc: NOW_MS - listening }, termStartMs: NOW_MS - term }),
          nothing,
        );
        const isDead = Math.min(seen, listening, term) >= limits.deadMs;
        expect(plan.deaths).toHaveLength(isDead ? 1 : 0);
        expect(plan.counts.dead).toBe(isDead ? 1 : 0);
      }),
    );
  });

  it('is shown on though listening began anew, until it is heard of, and is not acted on then', () => {
    const { memory } = planned(view(dead('a')), nothing);
    const anew = { listening: { grpc: NOW_MS + 59_000 }, nowMs: NOW_MS + 60_000 };
    const plan = planned(view(dead('a'), anew), memory);
    expect(plan).toMatchObject({ counts: { dead: 1 }, deaths: [], events: [] });
    const heard = dead().map((each) => ({ ...each, seenMs: { grpc: NOW_MS + 60_000 } }));
    expect(planned(view(heard, anew), plan.memory).counts.dead).toBe(0);
  });

  it('is forgotten after a day in which somebody listened', () => {
    const gone = [node('a', silentFor(FORGET_MS))];
    expect(planned(view(gone), nothing).forget).toEqual(['a']);
    expect(planned(view([node('a', silentFor(FORGET_MS - 1))]), nothing).forget).toEqual([]);
    expect(planned(view(gone, { listening: { grpc: NOW_MS - FORGET_MS + 1 } }), nothing).forget).toEqual([]);
    expect(planned(view(gone, { listening: {} }), nothing).forget).toEqual([]);
  });

  it('is found though the node once spoke on a channel that nobody listens to any more', () => {
    const once = node('a', { seenMs: { amqp: NOW_MS - 900_000, grpc: NOW_MS - limits.deadMs } });
    expect(planned(view([once], { listening: { grpc: 0 } }), nothing)).toMatchObject({
      ...{ counts: { dead: 1 }, deaths: [{ node: { key: 'a' } }] },
    });
  });

  it('is none of a node that nobody can hear, which is forgotten after a day', () => {
    const unheard = (ms: number) => [node('a', { seenMs: { amqp: NOW_MS - ms, grpc: 1 } })];
    const plan = (ms: number) => planned(view(unheard(ms), { listening: { grpc: 0 } }), nothing);
    expect(plan(FORGET_MS)).toMatchObject({ counts: { stale: 1 }, deaths: [], forget: ['a'] });
    expect(plan(FORGET_MS - 1)).toMatchObject({ counts: { healthy: 1 }, deaths: [], forget: [] });
  });
});

it('5,000 nodes that say something every half a minute change no row and little time', () => {
  const many = (ms: number) =>
    view(
      Array.from({ length: 5_000 }, (_, i) =>
        node(`i-${i}`, {
          seenMs: { grpc: NOW_MS + ms },
          status: status({ received_ms: NOW_MS + ms, idle_seconds: 60 + ms / 1000 }),
        }),
      ),
      { nowMs: NOW_MS + ms, machines: Array.from({ length: 5_000 }, (_, i) => machine(`i-${i}`)) },
    );
  const { memory } = planned(many(0), nothing);
  const next = many(30_000);
  const began = process.cpuUsage();
  expect(planned(next, memory).upserts).toEqual([]);
  const { user } = process.cpuUsage(began);
  // A look comes every 1.5 s. Measured: some tens of ms.
  expect(user / 1000).toBeLessThan(500);
});

it('a node of which nobody could hear for long is not written again at each look', () => {
  const unheard = (ms: number) => view([node('a')], { listening: {}, nowMs: NOW_MS + ms });
  const memory = after(unheard(0), unheard(MOVING_MS - 1));
  for (const ms of [MOVING_MS, MOVING_MS + 1_500, 2 * MOVING_MS]) {
    expect(planned(unheard(ms), memory).upserts).toEqual([]);
  }
});

it('thousands of nodes are planned in many steps, and one that is unchanged is taken over as it is', () => {
  const nodes = Array.from({ length: 1_000 }, (_, i) => node(`i-${i}`));
  const before = after(view(nodes));
  const changed = nodes.map((each) =>
    each.key === 'i-7' ? node('i-7', { status: status({ draining: true }) }) : each,
  );
  const steps = planNodes(view(changed), before);
  let step = steps.next();
  let number = 1;
  for (; step.done !== true; number++) step = steps.next();
  expect(number).toBeGreaterThan(1_000 / 100);
  const { shown } = step.value.memory;
  const anew = nodes.filter(({ key }) => shown.get(key) !== before.shown.get(key)).map(({ key }) => key);
  expect(anew).toEqual(['i-7']);
});

/** What happens to one node, or to everybody's view of it, between two looks. */
const happening = fc.record({
  afterMs: fc.constantFrom(1_500, 40_000, limits.staleMs, 200_000, MOVING_MS),
  /** Whom something is heard of, and how idle it says it is. */
  heard: fc.option(fc.record({ key: fc.constantFrom('a', 'b', 'c'), idle: fc.constantFrom(0, 60) }), {
    nil: undefined,
  }),
  isHeardByBrokerAlone: fc.boolean(),
  streams: fc.boolean(),
  machineState: fc.constantFrom('running', 'stopped', undefined),
  isListening: fc.boolean(),
});

it('what is taken over from the look before is what would be found anew', () => {
  fc.assert(
    fc.property(fc.array(happening, { minLength: 1, maxLength: 12 }), (happenings) => {
      let nodes = new Map(['a', 'b', 'c'].map((key) => [key, node(key)]));
      let machines: WorkerRecord[] = [];
      let [taken, anew] = [nothing, nothing];
      let nowMs = NOW_MS;
      for (const { afterMs, heard, isHeardByBrokerAlone, streams, machineState, isListening } of happenings) {
        nowMs += afterMs;
        const before = heard && nodes.get(heard.key);
        if (heard !== undefined && before !== undefined) {
          const said = isHeardByBrokerAlone
            ? { seenMs: { ...before.seenMs, amqp: nowMs } }
            : {
                seenMs: { ...before.seenMs, grpc: nowMs },
                status: status({ received_ms: nowMs, idle_seconds: heard.idle }),
              };
          nodes = new Map(nodes).set(heard.key, { ...before, ...said });
        }
        if ((machines[0]?.state ?? undefined) !== machineState)
          machines = machineState === undefined ? [] : [machine('a', { state: machineState })];
        const listening = isListening ? { grpc: 0, amqp: 0 } : {};
        const shared = { machines, listening, nowMs, isStreaming: () => streams };
        const takenPlan = planned(view([...nodes.values()], shared), taken);
        const copies = structuredClone([...nodes.values()]);
        const anewPlan = planned(view(copies, { ...shared, machines: structuredClone(machines) }), anew);
        [taken, anew] = [takenPlan.memory, anewPlan.memory];
        const { memory: _taken, ...found } = takenPlan;
        const { memory: _anew, ...expected } = anewPlan;
        expect(found).toEqual(expected);
      }
    }),
    { numRuns: 100 },
  );
});
