/** The resources in memory, found by what machines say of themselves. */
import { createResource } from '@carrierarr/store';
import { manifestSchema, RESOURCE_API_VERSION } from '@carrierarr/protocol';
import { expect, it } from 'vitest';
import { Fleet } from '../../../apps/monitor/src/reconciler/fleet.js';

it('finds the Workers that select a machine by all of their tags, through changes and ends of them', () => {
  const fleet = new Fleet({
    resources: { get: () => undefined, list: () => [], resourceVersion: '0' },
    onChange: () => () => {},
  });
  let revision = 0;
  const learn = (name: string, tags?: Record<string, string>) => {
    const manifest = manifestSchema.parse({
      ...{ apiVersion: RESOURCE_API_VERSION, kind: 'Worker', metadata: { name } },
      spec: tags === undefined ? {} : { selector: { tags } },
    });
    const worker = createResource(manifest, { uid: name, nowIso: '2025-01-01T00:00:00.000Z' });
    worker.metadata.resourceVersion = String((revision += 1));
    fleet.learn(worker);
    return worker;
  };
  const selecting = (tags: Record<string, string> | undefined) => [...fleet.namesSelecting(tags)].toSorted();
  learn('one', { role: 'gpu', env: 'prod' });
  learn('other', { env: 'prod' });
  learn('none');
  expect(selecting({ env: 'prod', role: 'gpu', more: 'x' })).toEqual(['one', 'other']);
  expect(selecting({ env: 'prod' })).toEqual(['other']);
  expect(selecting({ role: 'gpu' })).toEqual([]);
  expect(selecting(undefined)).toEqual([]);
  const one = learn('one', { env: 'test' });
  expect(selecting({ env: 'prod', role: 'gpu' })).toEqual(['other']);
  expect(selecting({ env: 'test' })).toEqual(['one']);
  fleet.unlearn(one);
  learn('other');
  expect(selecting({ env: 'test' })).toEqual([]);
  expect(selecting({ env: 'prod' })).toEqual([]);
});
