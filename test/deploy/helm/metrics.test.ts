/** Alerts and dashboards ask for metrics that exist, and alerts lead to pages that do. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { REFUSALS } from '../../../apps/monitor/src/agents/metrics.js';
import { helmMissing, readRepository } from '../../support/deploy-tools.js';
import { CHART, find, render } from './chart.js';

const root = join(CHART, '../../..');
const reference = readRepository('docs/reference/metrics.md');
const kinds = new Map([...reference.matchAll(/^\| `(\w+)` \| (\w+) \|/gm)].map((row) => [row[1], row[2]]));
/** Of every Node.js process, by prom-client. */
const OF_NODE = new Set([
  'process_cpu_seconds_total',
  'process_resident_memory_bytes',
  'nodejs_eventloop_lag_p99_seconds',
]);

/** Names of metrics in an expression, with labels that it selects or groups by. */
function metricsIn(expression: string): string[] {
  return [...expression.matchAll(/\b([a-z][a-z0-9_]*)\{/g)].map((match) => match[1] ?? '');
}

function isKnown(name: string): boolean {
  const base = name.replace(/_(bucket|sum|count)$/, '');
  return kinds.has(name) || OF_NODE.has(name) || (base !== name && kinds.get(base) === 'histogram');
}

interface Alert {
  alert: string;
  expr: string;
  summary: string;
}
const alerts = parse(readRepository('deploy/helm/carrierarr/alerts.yaml')) as Alert[];
const pageOf = ({ alert }: Alert): string =>
  `docs/runbooks/${alert.replaceAll(/(?<!^)[A-Z]/g, (letter) => `-${letter}`).toLowerCase()}.md`;

describe('alerts', () => {
  test.each(alerts)('$alert asks for metrics that exist', ({ expr }) => {
    expect(metricsIn(expr)).not.toEqual([]);
    expect(metricsIn(expr).filter((name) => !isKnown(name))).toEqual([]);
    expect(expr).toContain('SELECTOR');
  });

  test.each(alerts)('$alert has a runbook that says what to look at and what to do', (alert) => {
    const page = readRepository(pageOf(alert));
    expect(page).toContain(`# ${alert.alert}\n`);
    for (const heading of ['## Means', '## Look', '## Do']) expect(page).toContain(`\n${heading}\n`);
  });

  test('agents that are refused: whatever keeps them out is asked for, and its page says what to do', () => {
    const alert = alerts.find((each) => each.alert === 'CarrierarrAgentsRefused') as Alert;
    const asked = /reason=~"([^"]+)"/.exec(alert.expr)?.[1]?.split('|') ?? [];
    // What one agent says wrongly is a matter of its own, and a monitor that stops is not to be mended.
    expect(REFUSALS.filter((reason) => !asked.includes(reason))).toEqual([
      ...['name', 'messages', 'bytes', 'invalid', 'fenced', 'foreign', 'unavailable'],
    ]);
    expect(asked.filter((reason) => !(REFUSALS as readonly string[]).includes(reason))).toEqual([]);
    const page = readRepository(pageOf(alert));
    expect(asked.filter((reason) => !page.includes(`\`${reason}\``))).toEqual([]);
  });

  test('no runbook is left over', () => {
    const pages = readdirSync(join(root, 'docs/runbooks')).filter((name) => name !== 'README.md');
    expect(pages.map((name) => `docs/runbooks/${name}`).toSorted()).toEqual(alerts.map(pageOf).toSorted());
  });

  test('each metric that is worth an alert by the operator guide has one', () => {
    const guide = readRepository('docs/how-to/operate.md');
    const worth = [...guide.matchAll(/^\| `(\w+)` (?:grows|stays high|is 0)/gm)].map((row) => row[1] ?? '');
    expect(worth.length).toBeGreaterThan(8);
    const asked = new Set(alerts.flatMap(({ expr }) => metricsIn(expr)));
    // How deep the queue may be depends on the fleet; that commands wait does not.
    expect(worth.filter((name) => !asked.has(name))).toEqual(['carrierarr_runner_queue_depth']);
  });
});

describe('dashboards', () => {
  const files = readdirSync(join(CHART, 'dashboards'));
  test.each(files)('%s asks for metrics that exist', (name) => {
    const board = JSON.parse(readRepository(`deploy/helm/carrierarr/dashboards/${name}`)) as {
      panels: { title: string; targets: { expr: string }[] }[];
    };
    const wrong = board.panels.flatMap(({ title, targets }) =>
      targets.flatMap(({ expr }) =>
        metricsIn(expr)
          .filter((metric) => !isKnown(metric))
          .map((metric) => [title, metric]),
      ),
    );
    expect(board.panels.length).toBeGreaterThan(8);
    expect(wrong).toEqual([]);
  });
});

describe.skipIf(helmMissing !== undefined)('rendered', () => {
  test('alerts select the pods of their release and link to where runbooks are published', async () => {
    const objects = await render('production-eks');
    const [group] = find(objects, 'PrometheusRule', 'main-carrierarr').spec['groups'] as {
      rules: { alert: string; expr: string; labels: Record<string, string>; annotations: Record<string, string> }[];
    }[];
    expect(group?.rules.map(({ alert }) => alert)).toEqual(
      alerts.map(({ alert }) => alert).filter((name) => name !== 'CarrierarrOrphans'),
    );
    for (const { alert, expr, labels, annotations } of group?.rules ?? []) {
      expect(expr).toContain('namespace="fleet", pod=~"main-carrierarr-(gateway|runner|monitor)-.*"');
      expect(labels).toMatchObject({ team: 'platform' });
      const page = annotations['runbook_url']?.replace('https://wiki.example/carrierarr/runbooks/', '') ?? '';
      expect([alert, existsSync(join(root, 'docs/runbooks', page))]).toEqual([alert, true]);
      expect(annotations['summary']).not.toContain('$labels }');
    }
  });

  test('dashboards are ConfigMaps that Grafana finds', async () => {
    const boards = (await render('production-eks')).filter(
      ({ metadata }) => metadata.labels['grafana_dashboard'] === '1',
    );
    expect(boards.map(({ data }) => Object.keys(data ?? {})[0])).toEqual(readdirSync(join(CHART, 'dashboards')));
  });
});
