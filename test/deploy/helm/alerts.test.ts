/** The chart's alerts as Prometheus evaluates them: each fires for what it is about, not at once, and for nothing just short of it. */
import { describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { helmMissing } from '../../support/deploy-tools.js';
import { promtool, promtoolMissing } from '../../support/promtool.js';
import { find, render, RENDER_MS } from './chart.js';
import { onDisk } from './on-disk.js';

/** Samples are a minute apart. Long enough for the longest `for`, an hour. */
const MINUTES = 100;
/** Of each alert the values by series, as promtool writes them (`0+2x100` grows by 2 a minute), and the labels that it has beside its severity. */
interface Case {
  fires: Record<string, string>;
  quiet: Record<string, string>;
  labels?: Record<string, string>;
  /** Of an alert that waits: the first minute at which it fires. Its `for`, and the time that a counter takes to grow. */
  from?: number;
}
const steady = (value: number) => `${value}+0x${MINUTES}`;
/** A counter that grew once, a few minutes before the end. */
const jump = (by: number) => `0+0x${MINUTES - 6} ${by}+0x5`;

const runners = { 'carrierarr_build_info{program="runner"}': steady(1) };
const gateways = { 'carrierarr_build_info{program="gateway"}': steady(1) };
/** A counter that must not grow at all. */
const never = (series: string): Case => ({ fires: { [series]: jump(1) }, quiet: { [series]: steady(7) } });

const CASES: Record<string, Case> = {
  CarrierarrGatewayMissing: {
    from: 2,
    fires: runners,
    quiet: gateways,
    labels: { namespace: 'fleet', program: 'gateway' },
  },
  CarrierarrRunnerMissing: {
    from: 2,
    fires: gateways,
    quiet: runners,
    labels: { namespace: 'fleet', program: 'runner' },
  },
  CarrierarrNobodyLeads: {
    from: 1,
    fires: { 'carrierarr_monitor_leader{monitor="1"}': steady(0), 'carrierarr_monitor_leader{monitor="2"}': steady(0) },
    quiet: { 'carrierarr_monitor_leader{monitor="1"}': steady(0), 'carrierarr_monitor_leader{monitor="2"}': steady(1) },
  },
  CarrierarrCommandsWait: {
    from: 11,
    fires: latency({ within30: 9, over30: 1 }),
    quiet: latency({ within30: 99, over30: 1 }),
  },
  CarrierarrCommandsUnannounced: {
    from: 6,
    fires: { carrierarr_gateway_unannounced_commands_total: `0+1x${MINUTES}` },
    quiet: { carrierarr_gateway_unannounced_commands_total: steady(3) },
  },
  CarrierarrCommandsLost: never('carrierarr_runner_lost_reaped_total'),
  CarrierarrOutputLost: never('carrierarr_runner_lost_entries_total'),
  CarrierarrOutputBlocked: {
    from: 11,
    fires: { carrierarr_runner_backpressure_pauses_total: `0+1x${MINUTES}` },
    // Over before it is worth a word.
    quiet: { carrierarr_runner_backpressure_pauses_total: jump(1) },
  },
  CarrierarrClientGaps: never('carrierarr_gateway_client_gaps_total'),
  CarrierarrSubscriptionSilent: {
    fires: { carrierarr_gateway_probe_failures_total: jump(4) },
    quiet: { carrierarr_gateway_probe_failures_total: jump(1) },
  },
  CarrierarrStatusOld: {
    from: 2,
    fires: { carrierarr_gateway_status_age_seconds: steady(61) },
    quiet: { carrierarr_gateway_status_age_seconds: steady(59) },
  },
  CarrierarrGatewayNearlyFull: {
    from: 5,
    fires: { carrierarr_gateway_connections: steady(16_001) },
    quiet: { carrierarr_gateway_connections: steady(16_000) },
  },
  CarrierarrPollsFail: {
    from: 8,
    fires: { 'carrierarr_monitor_poll_errors_total{source="ec2/eu-central-1"}': `0+1x${MINUTES}` },
    quiet: { 'carrierarr_monitor_poll_errors_total{source="ec2/eu-central-1"}': jump(1) },
    labels: { source: 'ec2/eu-central-1' },
  },
  CarrierarrSourceStale: {
    from: 2,
    fires: { 'carrierarr_monitor_source_age_seconds{source="script"}': steady(601) },
    quiet: { 'carrierarr_monitor_source_age_seconds{source="script"}': steady(599) },
    labels: { source: 'script' },
  },
  CarrierarrRepairHalted: {
    from: 5,
    fires: { carrierarr_monitor_halted_groups: steady(1) },
    quiet: { carrierarr_monitor_halted_groups: steady(0) },
  },
  CarrierarrReconcilerBehind: {
    from: 10,
    fires: { 'workqueue_depth{name="reconciler"}': steady(101) },
    quiet: { 'workqueue_depth{name="reconciler"}': steady(100) },
    labels: { name: 'reconciler' },
  },
  CarrierarrOrphans: {
    from: 60,
    fires: { carrierarr_monitor_orphans: steady(1) },
    // Looked after within the hour.
    quiet: { carrierarr_monitor_orphans: `0+0x${MINUTES - 50} 1+0x49` },
  },
  CarrierarrAgentsSilent: {
    from: 2,
    fires: nodes({ alive: 7, stale: 3 }),
    // Those that are dead for long are no part of the fleet.
    quiet: nodes({ alive: 8, stale: 2, dead: 90 }),
  },
  CarrierarrAgentsDie: {
    fires: { 'carrierarr_monitor_node_events_total{kind="dead"}': jump(5) },
    quiet: {
      'carrierarr_monitor_node_events_total{kind="dead"}': jump(2),
      'carrierarr_monitor_node_events_total{kind="left"}': jump(20),
    },
  },
  CarrierarrAgentsDiedAtOnce: {
    from: 1,
    fires: { carrierarr_monitor_mass_death: steady(1) },
    quiet: { carrierarr_monitor_mass_death: steady(0) },
  },
  CarrierarrRabbitmqAway: {
    from: 2,
    fires: {
      'carrierarr_monitor_rabbitmq_consuming{monitor="1"}': steady(1),
      'carrierarr_monitor_rabbitmq_consuming{monitor="2"}': steady(0),
    },
    quiet: { 'carrierarr_monitor_rabbitmq_consuming{monitor="1"}': steady(1) },
  },
  CarrierarrAgentsRefused: {
    from: 12,
    fires: { 'carrierarr_agents_refused_total{reason="token"}': `0+3x${MINUTES}` },
    quiet: {
      'carrierarr_agents_refused_total{reason="token"}': `0+1x${MINUTES}`,
      // A monitor that stops refuses for that reason, and the agents go to another one.
      'carrierarr_agents_refused_total{reason="unavailable"}': `0+9x${MINUTES}`,
    },
    labels: { reason: 'token' },
  },
  CarrierarrAgentResultsDropped: never('carrierarr_agents_results_dropped_total'),
};

/** So many commands a minute that started within 30 s, and later. */
function latency({ within30, over30 }: { within30: number; over30: number }): Record<string, string> {
  const bucket = (le: string, each: number) => [
    `carrierarr_runner_start_latency_seconds_bucket{le="${le}"}`,
    `0+${each}x${MINUTES}`,
  ];
  const all = within30 + over30;
  return Object.fromEntries([bucket('30', within30), bucket('60', all), bucket('+Inf', all)]) as Record<string, string>;
}

function nodes(counts: Record<string, number>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(counts).map(([liveness, number]) => [
      `carrierarr_monitor_nodes{liveness="${liveness}"}`,
      steady(number),
    ]),
  );
}

/** The series as Prometheus scrapes it from a pod of a release. */
function scraped(series: string, release: { namespace: string; pod: string }): string {
  const labels = Object.entries(release).map(([name, value]) => `${name}="${value}"`);
  const [name, own] = series.split(/[{}]/);
  return `${name}{${[...(own ? [own] : []), ...labels].join(', ')}}`;
}
const OURS = { namespace: 'fleet', pod: 'main-carrierarr-monitor-0' };
/** Whose troubles are nobody's here. */
const OTHERS = { namespace: 'elsewhere', pod: 'main-carrierarr-monitor-0' };
const input = (series: Record<string, string>, release = OURS) =>
  Object.entries(series).map(([name, values]) => ({ series: scraped(name, release), values }));

interface Rule {
  alert: string;
  expr: string;
  for?: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
}

/** What a release has Prometheus evaluate. */
async function rules(values = {}): Promise<Rule[]> {
  const objects = await render('default', { 'metrics.prometheusRule.enabled': true, ...values });
  const [group] = find(objects, 'PrometheusRule', 'main-carrierarr').spec['groups'] as { rules: Rule[] }[];
  return group?.rules ?? [];
}
/** Path of a file of rules as Prometheus itself reads it. */
const fileOf = (some: readonly Rule[]) => onDisk(stringify({ groups: [{ name: 'carrierarr', rules: some }] }));

describe.skipIf(helmMissing !== undefined)('the chart', { timeout: RENDER_MS }, () => {
  test.each([
    [{}, 600],
    [{ poll: '5m' }, 1800],
    [{ poll: '5m', pollMax: '6m' }, 1080],
    [{ poll: '1h', pollMax: '1h' }, 10_800],
    // The program takes the longer of the two.
    [{ poll: '1h', pollMax: '1m' }, 10_800],
  ])('waits for polls as far apart as %o allow before it calls a source stale', async (config, seconds) => {
    const stale = (await rules({ 'monitor.config': config })).find(({ alert }) => alert === 'CarrierarrSourceStale');
    expect(stale?.expr).toContain(` > ${seconds}`);
    expect(stale?.annotations['summary']).toContain(`more than ${seconds} s old`);
  });

  test('takes the bound of connections from its settings', async () => {
    const full = (await rules({ 'gateway.config.connectionsMax': 5000 })).find(({ expr }) => expr.includes('0.8'));
    expect(full?.expr).toContain('0.8 * 5000');
  });
});

describe.skipIf(helmMissing !== undefined || promtoolMissing !== undefined)('Prometheus', () => {
  test(
    'takes the rules as they are',
    async () => {
      const known = await rules();
      expect(await promtool('check', 'rules', fileOf(known))).toContain(`SUCCESS: ${known.length} rules found`);
      expect(Object.keys(CASES)).toEqual(known.map(({ alert }) => alert));
      const waiting = known.filter((rule) => rule.for !== undefined).map(({ alert }) => alert);
      expect(Object.keys(CASES).filter((alert) => CASES[alert]?.from !== undefined)).toEqual(waiting);
    },
    RENDER_MS,
  );

  test.each(Object.entries(CASES))(
    '%s fires when it should, not before that has lasted, and not for a little less or for somebody else',
    async (alert, { fires, quiet, labels = {}, from }) => {
      const rule = (await rules()).find((each) => each.alert === alert);
      if (rule === undefined) throw new Error(`The chart has no alert ${alert}.`);
      const summary = rule.annotations['summary']?.replaceAll(
        /\{\{ \$labels\.(\w+) \}\}/g,
        (_, label: string) => labels[label] ?? '',
      );
      const expected = {
        exp_labels: { ...rule.labels, ...labels },
        exp_annotations: { ...rule.annotations, summary },
      };
      const at = (minute: number, exp_alerts: unknown[]) => ({ eval_time: `${minute}m`, alertname: alert, exp_alerts });
      const tests = [
        {
          interval: '1m',
          input_series: input(fires),
          alert_rule_test: [
            ...(from === undefined ? [] : [at(from - 1, []), at(from, [expected])]),
            at(MINUTES, [expected]),
          ],
        },
        {
          interval: '1m',
          input_series: [...input(quiet), ...(alert.endsWith('Missing') ? [] : input(fires, OTHERS))],
          alert_rule_test: [at(MINUTES, [])],
        },
      ];
      const file = onDisk(stringify({ rule_files: [fileOf([rule])], evaluation_interval: '1m', tests }));
      await expect(promtool('test', 'rules', file)).resolves.toContain('SUCCESS');
    },
    RENDER_MS,
  );
});
