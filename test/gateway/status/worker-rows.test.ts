import type { SeenWorker, SourceReport } from '@carrierarr/protocol';
import type { StatusDelta } from '@carrierarr/store';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { documentText, statusFrame } from '../../../apps/gateway/src/status/encode.js';
import { StatusView } from '../../../apps/gateway/src/status/status-view.js';

const NOW_MS = Date.UTC(2025, 0, 1);
const TIMESTAMP = '2025-01-01T00:00:00Z';
const IDS = ['a', 'b', 'c', 'd'];

const text = fc.string({ unit: 'binary' });
const worker = fc
  .record(
    {
      id: fc.constantFrom(...IDS),
      name: text,
      target: fc.constantFrom('here', 'there'),
      tags: fc.dictionary(text, text),
      gone_at: fc.constant(new Date(NOW_MS - 5_000).toISOString()),
      source: fc.constantFrom('poll', 'script', 'never-heard-of'),
      'from a newer monitor "': text,
    },
    { requiredKeys: ['id', 'name', 'target', 'source'] },
  )
  .map((fields) => fields as unknown as SeenWorker);
const delta = fc.record({
  full: fc.boolean(),
  workers: fc.uniqueArray(worker, { selector: ({ id }) => id }),
  removed: fc.subarray(IDS),
  agesMs: fc.record({ poll: fc.nat(200_000), script: fc.option(fc.nat(200_000), { nil: undefined }) }),
});

it('workers are found by their target, wherever they were before', () => {
  fc.assert(
    fc.property(fc.array(delta, { minLength: 1, maxLength: 6 }), (deltas) => {
      const view = new StatusView();
      for (const [version, { full, workers, removed }] of deltas.entries()) {
        const seen = workers.map((each) => ({ ...each, version, observed_at: TIMESTAMP }));
        view.apply({ epoch: 'e', version, full, workers: seen, removed });
        const all = view.workers(NOW_MS, { gone: false });
        for (const target of ['here', 'there']) {
          const ids = view.withTarget(target).map(({ id }) => id);
          const expected = all.filter((each) => each.target === target).map(({ id }) => id);
          expect(ids.toSorted()).toEqual(expected);
        }
      }
    }),
  );
});

it('a document of rows is what the workers are, encoded whole', () => {
  fc.assert(
    fc.property(fc.array(delta, { minLength: 1, maxLength: 6 }), fc.boolean(), (deltas, gone) => {
      const view = new StatusView();
      for (const [i, { full, workers, removed, agesMs }] of deltas.entries()) {
        const version = i + 1;
        const seen = workers.map((each) => ({ ...each, version, observed_at: TIMESTAMP }));
        view.hear({
          sources: ['poll', 'script'].map((source) => {
            const polled_at = new Date(NOW_MS - agesMs.poll).toISOString();
            return { source, ok: true, polled_at, interval_ms: 30_000, calls: 1, workers: 1 } satisfies SourceReport;
          }),
          seenMs: new Map(agesMs.script === undefined ? [] : [['b', NOW_MS - agesMs.script]]),
        });
        view.apply({ epoch: 'e', version, full, workers: seen, removed } satisfies StatusDelta);
        const expected = JSON.stringify({ workers: view.workers(NOW_MS, { gone }), timestamp: TIMESTAMP });
        const rows = view.rows(NOW_MS, { gone });
        expect(documentText(rows, TIMESTAMP)).toBe(expected);
        const frame = { type: 'status', timestamp: TIMESTAMP, data: expected };
        expect(statusFrame(rows, TIMESTAMP).toString()).toBe(JSON.stringify(frame));
        const ids = view.workers(NOW_MS, { gone: true }).map(({ id }) => id);
        expect(ids).toEqual(ids.toSorted());
      }
    }),
  );
});
