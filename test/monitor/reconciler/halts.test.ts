/** When the repair of many is halted, and for how long. */
import { createResource } from '@carrierarr/store';
import { manifestSchema, RESOURCE_API_VERSION, type WorkerResource } from '@carrierarr/protocol';
import { HALT_WINDOW_MS } from '@carrierarr/reconcile';
import { expect, it } from 'vitest';
import { Fleet } from '../../../apps/monitor/src/reconciler/fleet.js';
import { Halts } from '../../../apps/monitor/src/reconciler/halts.js';
import { machine } from './support.js';

const NOW_MS = Date.UTC(2025, 0, 1);
const TIME = new Date(NOW_MS).toISOString();

function setUp() {
  const fleet = new Fleet({
    resources: { get: () => undefined, list: () => [], resourceVersion: '0' },
    onChange: () => () => {},
  });
  const states = new Map<string, string>();
  let nowMs = NOW_MS;
  let revision = 0;
  const put = (name: string) => {
    const manifest = manifestSchema.parse({
      ...{ apiVersion: RESOURCE_API_VERSION, kind: 'Worker', metadata: { name }, spec: {} },
    });
    const worker = createResource(manifest, { uid: name, nowIso: TIME }) as WorkerResource;
    worker.status = {
      ...{ observedGeneration: 1, phase: 'Running', target: name, attempts: 0, failures: 0, wasReady: true },
      conditions: [],
    };
    worker.metadata.resourceVersion = String((revision += 1));
    fleet.learn(worker);
    states.set(name, 'running');
  };
  for (let n = 0; n < 10; n++) put(`w${n}`);
  const observationOf = ({ metadata }: WorkerResource) => {
    const seen = { ...machine(metadata.name, states.get(metadata.name)), version: 1, observed_at: TIME };
    return { workers: [seen], fresh: true, polledAtMs: nowMs };
  };
  const halts = new Halts({ fleet, views: { observationOf }, nowMs: () => nowMs });
  return {
    halts,
    show: (state: string, ...names: string[]) => {
      for (const name of names) {
        states.set(name, state);
        halts.look(name);
      }
    },
    pass: (ms: number) => (nowMs += ms),
  };
}

it('what a new leader finds bad at once is halted, beyond the ten minutes, until workers are back', () => {
  const { halts, show, pass } = setUp();
  show('stopped', 'w0', 'w1', 'w2');
  halts.lookAtAll();
  halts.judge();
  expect(halts.reasonOf('')).toBeDefined();
  pass(2 * HALT_WINDOW_MS);
  expect(halts.judge()).toEqual([]);
  expect(halts.reasonOf('')).toBeDefined();
  show('running', 'w0');
  expect(halts.judge()).toEqual(['']);
  expect(halts.reasonOf('')).toBeUndefined();
});

it('workers that go bad one by one, each long after the other, halt nothing', () => {
  const { halts, show, pass } = setUp();
  halts.lookAtAll();
  for (const name of ['w0', 'w1', 'w2', 'w3']) {
    show('stopped', name);
    halts.judge();
    expect(halts.reasonOf('')).toBeUndefined();
    pass(HALT_WINDOW_MS);
  }
  expect(halts.groups).toBe(0);
});

it('what is not looked at again counts as it did', () => {
  const { halts, show } = setUp();
  halts.lookAtAll();
  show('stopped', 'w0', 'w1');
  expect(halts.judge()).toEqual([]);
  show('stopped', 'w2');
  expect(halts.judge()).toEqual(['']);
  expect(halts.groups).toBe(1);
});
