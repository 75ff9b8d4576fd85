import { createMetrics } from '@carrierarr/platform';
import { expect, it } from 'vitest';
import { createObserveMetrics } from '../../apps/monitor/src/observe/metrics.js';
import { metricValues } from '../support/metric.js';

const ERRORS = 'carrierarr_monitor_poll_errors_total';

it('what was never counted is told from what nobody counts', async () => {
  const registry = createMetrics({ program: 'test', version: 'test', hasProcessMetrics: false });
  const { pollErrors } = createObserveMetrics(registry);
  expect(await metricValues(registry, ERRORS)).toEqual([]);
  pollErrors.inc({ source: 'a' }, 2);
  pollErrors.inc({ source: 'b' });
  expect(await metricValues(registry, ERRORS, { source: 'a' })).toEqual([{ labels: { source: 'a' }, value: 2 }]);
  expect(await metricValues(registry, ERRORS, { source: 'c' })).toEqual([]);
  await expect(metricValues(registry, 'poll_error_total')).rejects.toThrow(
    /got `poll_error_total`\. There are .*total/,
  );
  await expect(metricValues(registry, ERRORS, { sauce: 'a' })).rejects.toThrow('has no label sauce, but source.');
});
