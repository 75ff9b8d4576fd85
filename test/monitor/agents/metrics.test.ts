import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Registry } from '@carrierarr/platform';
import { expect, it } from 'vitest';
import { createAgentMetrics } from '../../../apps/monitor/src/agents/metrics.js';

it('no counter of agents is there that nothing counts', () => {
  const folder = join(import.meta.dirname, '../../../apps/monitor/src/agents');
  const files = readdirSync(folder).filter((name) => name.endsWith('.ts'));
  const sources = files.map((name) => readFileSync(join(folder, name), 'utf8'));
  const none = () => 0;
  const metrics = createAgentMetrics(new Registry(), { streams: none, mailOpen: none, resultsWaiting: none });
  const counters = Object.entries(metrics).flatMap(([name, metric]) =>
    metric.constructor.name === 'Counter' ? [name] : [],
  );
  expect(counters).toContain('refused');
  expect(counters.filter((name) => !sources.some((text) => text.includes(`metrics.${name}.inc(`)))).toEqual([]);
});
