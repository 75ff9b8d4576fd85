/** The chart of the previous release, as upgrade.test.ts installs it in a cluster, as far as can be seen without one. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { helm, helmMissing } from '../../support/deploy-tools.js';
import { previousChart, previousChartMissing } from '../../support/previous-chart.js';
import { readPrevious } from '../../support/previous-release.js';
import { CHART, COMPONENTS, find, type KubernetesObject, podOf, RENDER_MS } from './chart.js';
import { onDisk } from './on-disk.js';
import { rolloutValues } from './rollout.values.js';

async function objectsOf(chart: string, tag: string): Promise<KubernetesObject[]> {
  const values = onDisk(JSON.stringify(rolloutValues({ tag, hasAgent: false })));
  const text = await helm('template', 'main', chart, '--namespace', 'fleet', '--values', values);
  return parseAllDocuments(text)
    .map((document) => document.toJS() as KubernetesObject | null)
    .filter((object) => object !== null);
}

/** The keys that a program of the previous release takes from its file, as its reference says. */
function keysKnownTo(program: string): string[] {
  const [, section = ''] = readPrevious('docs/reference/configuration.md').split(`\n## \`carrierarr ${program}\`\n`);
  const [table = ''] = section.split('\n## ');
  return [...table.matchAll(/^\| `--?[\w-]+` \| `\w+` \| `(\w+)` \|/gm)].map(([, key = '']) => key);
}

describe.skipIf(helmMissing !== undefined || previousChartMissing !== undefined)(
  'the chart of the previous release',
  { timeout: RENDER_MS },
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'previous-chart-'));
    let chart: string;
    beforeAll(() => {
      chart = previousChart(folder);
    });
    afterAll(() => rmSync(folder, { recursive: true }));

    test.each(COMPONENTS)('tells a %s of that release nothing that it does not know', async (component) => {
      const objects = await objectsOf(chart, 'previous');
      expect(podOf(objects, component).container.image).toMatch(new RegExp(`carrierarr-${component}:previous$`));
      const text = find(objects, 'ConfigMap', `main-carrierarr-${component}`).data?.['config.yaml'] ?? '';
      const told = Object.keys(parse(text) as object);
      expect(told).toContain('redisUrl');
      const known = keysKnownTo(component);
      expect(known).toContain('redisUrl');
      expect(told.filter((key) => !known.includes(key))).toEqual([]);
    });

    test('has become this one without a change that Kubernetes refuses', async () => {
      const olds = await objectsOf(chart, 'previous');
      const news = await objectsOf(CHART, 'next');
      const kept = olds.filter(({ kind }) => ['Deployment', 'StatefulSet', 'PersistentVolumeClaim'].includes(kind));
      expect(kept.map(({ kind }) => kind)).toEqual(expect.arrayContaining(['Deployment', 'StatefulSet']));
      for (const { kind, metadata, spec } of kept) {
        expect([kind, metadata.name, immutable(kind, find(news, kind, metadata.name).spec)]).toEqual([
          kind,
          metadata.name,
          immutable(kind, spec),
        ]);
      }
    });

    test('has the Service of clients where this one has it, so that they find it before and after', async () => {
      const portsOf = async (from: string) => {
        const { spec } = find(await objectsOf(from, 'any'), 'Service', 'main-carrierarr-gateway');
        return {
          ports: spec.ports?.map(({ name, port }) => [name, port]),
          selector: spec.selector,
          type: spec['type'],
        };
      };
      expect(await portsOf(CHART)).toEqual(await portsOf(chart));
    });
  },
);

/** What an object of this kind has for life. */
function immutable(kind: string, spec: KubernetesObject['spec']): unknown {
  if (kind === 'PersistentVolumeClaim') return spec;
  const { selector, serviceName, podManagementPolicy, volumeClaimTemplates } = spec;
  return { selector, serviceName, podManagementPolicy, volumeClaimTemplates };
}
