/**
 * The Grafana dashboards, as lists of what to draw. A panel is a title, a unit and queries; `$SELECTOR` is what selects
 * the pods of the namespace and release that are chosen above the panels.
 */
const SELECTOR = 'namespace="$namespace", pod=~"$release-(gateway|runner|monitor)-.*"';
const PANEL_HEIGHT = 8;
const PANELS_A_ROW = 3;
const WIDTH = 24;

/** `[legend, expression]` pairs; the legend may use labels of the result. */
const panel = (title, unit, ...queries) => ({ title, unit, queries });
const rate = (metric, by = '') => `sum${by === '' ? '' : ` by (${by})`} (rate(${metric}{$SELECTOR}[$__rate_interval]))`;
const total = (metric, by = '') => `sum${by === '' ? '' : ` by (${by})`} (${metric}{$SELECTOR})`;
const highest = (metric, by = '') => `max${by === '' ? '' : ` by (${by})`} (${metric}{$SELECTOR})`;
const quantile = (share, metric, by = '') =>
  `histogram_quantile(${share}, sum by (le${by === '' ? '' : `, ${by}`}) (rate(${metric}_bucket{$SELECTOR}[$__rate_interval])))`;

const DASHBOARDS = {
  gateways: {
    title: 'carrierarr: gateways',
    panels: [
      panel('Connections', 'short', ['{{pod}}', total('carrierarr_gateway_connections', 'pod')]),
      panel('Lines to clients', 'cps', ['{{pod}}', rate('carrierarr_gateway_delivered_lines_total', 'pod')]),
      panel('Bytes to clients', 'Bps', ['{{pod}}', rate('carrierarr_gateway_delivered_bytes_total', 'pod')]),
      panel('Commands by result', 'cps', ['{{result}}', rate('carrierarr_gateway_commands_total', 'result')]),
      panel('HTTP by status', 'reqps', ['{{status}}', rate('carrierarr_gateway_http_requests_total', 'status')]),
      panel('HTTP, 95 % within', 's', [
        '{{route}}',
        quantile(0.95, 'carrierarr_gateway_http_request_seconds', 'route'),
      ]),
      panel(
        'Clients behind',
        'short',
        ['now', total('carrierarr_gateway_clients_behind')],
        ['fell behind a second', rate('carrierarr_gateway_clients_fell_behind_total')],
        ['caught up a second', rate('carrierarr_gateway_clients_caught_up_total')],
      ),
      panel(
        'What must not be',
        'cps',
        ['gaps', rate('carrierarr_gateway_client_gaps_total')],
        ['gaps over HTTP', rate('carrierarr_gateway_http_output_gaps_total')],
        ['silent subscriptions', rate('carrierarr_gateway_probe_failures_total')],
        ['unannounced commands', rate('carrierarr_gateway_unannounced_commands_total')],
        ['lines lost', rate('carrierarr_gateway_tail_lost_lines_total')],
      ),
      panel('Refusals', 'cps', ['{{code}}', rate('carrierarr_gateway_ws_refusals_total', 'code')]),
      panel(
        'Redis round trip',
        's',
        ['half within', quantile(0.5, 'carrierarr_gateway_probe_round_trip_seconds')],
        ['99 % within', quantile(0.99, 'carrierarr_gateway_probe_round_trip_seconds')],
      ),
      panel('Age of what is shown of workers', 's', [
        '{{pod}}',
        highest('carrierarr_gateway_status_age_seconds', 'pod'),
      ]),
      panel('Event loop, 99 % within', 's', ['{{pod}}', highest('nodejs_eventloop_lag_p99_seconds', 'pod')]),
    ],
  },
  commands: {
    title: 'carrierarr: commands',
    panels: [
      panel('Queue of the installation', 'short', [
        '{{state}}',
        'max by (state) (carrierarr_runner_queue_depth{$SELECTOR})',
      ]),
      panel('Running', 'short', ['{{pod}}', total('carrierarr_runner_running', 'pod')]),
      panel('Ended, by outcome', 'cps', ['{{outcome}}', rate('carrierarr_runner_executions_total', 'outcome')]),
      panel(
        'From acceptance to start',
        's',
        ['half within', quantile(0.5, 'carrierarr_runner_start_latency_seconds')],
        ['95 % within', quantile(0.95, 'carrierarr_runner_start_latency_seconds')],
      ),
      panel('Lines written', 'cps', ['{{pod}}', rate('carrierarr_runner_lines_total', 'pod')]),
      panel('Bytes written', 'Bps', ['{{pod}}', rate('carrierarr_runner_bytes_total', 'pod')]),
      panel('Output that waits for Redis', 'bytes', ['{{pod}}', total('carrierarr_runner_spool_bytes', 'pod')]),
      panel(
        'What must not be',
        'cps',
        ['lost commands', rate('carrierarr_runner_lost_reaped_total')],
        ['lost entries', rate('carrierarr_runner_lost_entries_total')],
        ['fenced', rate('carrierarr_runner_fenced_total')],
        ['renewals failed', rate('carrierarr_runner_renewal_failures_total')],
      ),
      panel(
        'Output held back or cut',
        'cps',
        ['scripts made to wait', rate('carrierarr_runner_backpressure_pauses_total')],
        ['lines too long', rate('carrierarr_runner_truncated_lines_total')],
        ['lines beyond the bound', rate('carrierarr_runner_limited_lines_total')],
      ),
      panel('History trimmed', 'Bps', ['bytes', rate('carrierarr_runner_retention_trimmed_bytes_total')]),
      panel('CPU', 'percentunit', ['{{pod}}', rate('process_cpu_seconds_total', 'pod')]),
      panel('Memory', 'bytes', ['{{pod}}', total('process_resident_memory_bytes', 'pod')]),
    ],
  },
  fleet: {
    title: 'carrierarr: fleet',
    panels: [
      panel('Workers by state', 'short', [
        '{{state}}',
        'max by (source, state) (carrierarr_monitor_workers{$SELECTOR})',
      ]),
      panel('Who leads', 'short', ['{{pod}}', total('carrierarr_monitor_leader', 'pod')]),
      panel('Age of the last complete poll', 's', [
        '{{source}}',
        highest('carrierarr_monitor_source_age_seconds', 'source'),
      ]),
      panel('Polls, 95 % within', 's', ['{{source}}', quantile(0.95, 'carrierarr_monitor_poll_seconds', 'source')]),
      panel('Polls that failed', 'cps', ['{{source}}', rate('carrierarr_monitor_poll_errors_total', 'source')]),
      panel('Calls of AWS', 'cps', [
        '{{service}} {{operation}}',
        rate('carrierarr_monitor_api_calls_total', 'service, operation'),
      ]),
      panel('Commands of the reconciler', 'cps', [
        '{{verb}} {{answer}}',
        rate('carrierarr_monitor_commands_total', 'verb, answer'),
      ]),
      panel('From a difference to the command against it', 's', [
        '95 % within',
        quantile(0.95, 'carrierarr_monitor_drift_to_command_seconds'),
      ]),
      panel('To look at', 'short', ['{{name}}', highest('workqueue_depth', 'name')]),
      panel(
        'Halted groups, orphans',
        'short',
        ['halted', highest('carrierarr_monitor_halted_groups')],
        ['orphans', highest('carrierarr_monitor_orphans')],
      ),
      panel('Looks by result', 'cps', ['{{result}}', rate('controller_runtime_reconcile_total', 'result')]),
      panel('Waited for AWS budgets, 95 % within', 's', [
        '{{service}}',
        quantile(0.95, 'carrierarr_monitor_api_wait_seconds', 'service'),
      ]),
    ],
  },
  agents: {
    title: 'carrierarr: agents',
    panels: [
      panel('Nodes by whether they live', 'short', ['{{liveness}}', highest('carrierarr_monitor_nodes', 'liveness')]),
      panel('What happened to nodes', 'cps', ['{{kind}}', rate('carrierarr_monitor_node_events_total', 'kind')]),
      panel('Streams', 'short', ['{{pod}}', total('carrierarr_agents_streams', 'pod')]),
      panel('Messages over streams', 'cps', ['{{kind}}', rate('carrierarr_agents_messages_total', 'kind')]),
      panel('Refused', 'cps', ['{{reason}}', rate('carrierarr_agents_refused_total', 'reason')]),
      panel('Commands under way', 'short', ['{{pod}}', total('carrierarr_agents_commands_open', 'pod')]),
      panel(
        'Commands and results',
        'cps',
        ['sent', rate('carrierarr_agents_commands_sent_total')],
        ['{{kind}} results', rate('carrierarr_agents_results_total', 'kind')],
      ),
      panel('Output', 'Bps', ['{{pod}}', rate('carrierarr_agents_output_bytes_total', 'pod')]),
      panel('Output by answer', 'cps', ['{{verdict}}', rate('carrierarr_agents_output_acks_total', 'verdict')]),
      panel('Reads from RabbitMQ', 'short', ['{{pod}}', total('carrierarr_monitor_rabbitmq_consuming', 'pod')]),
      panel('Messages of RabbitMQ', 'cps', [
        '{{queue}} {{outcome}}',
        rate('carrierarr_monitor_rabbitmq_messages_total', 'queue, outcome'),
      ]),
      panel(
        'What must not be',
        'cps',
        ['results dropped', rate('carrierarr_agents_results_dropped_total')],
        ['commands dropped', rate('carrierarr_agents_mail_dropped_total')],
        ['slow streams', 'sum (rate(carrierarr_agents_refused_total{reason="slow", $SELECTOR}[$__rate_interval]))'],
        ['RabbitMQ lost', rate('carrierarr_monitor_rabbitmq_disconnects_total')],
      ),
    ],
  },
};

const datasource = { type: 'prometheus', uid: '${datasource}' };

function drawn({ title, unit, queries }, index) {
  return {
    id: index + 1,
    type: 'timeseries',
    title,
    datasource,
    gridPos: {
      h: PANEL_HEIGHT,
      w: WIDTH / PANELS_A_ROW,
      x: (index % PANELS_A_ROW) * (WIDTH / PANELS_A_ROW),
      y: Math.floor(index / PANELS_A_ROW) * PANEL_HEIGHT,
    },
    fieldConfig: { defaults: { unit, min: 0, custom: { fillOpacity: 10, showPoints: 'never' } }, overrides: [] },
    options: { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi', sort: 'desc' } },
    targets: queries.map(([legendFormat, expr], at) => ({
      refId: String.fromCodePoint('A'.codePointAt(0) + at),
      datasource,
      expr: expr.replaceAll('$SELECTOR', SELECTOR),
      legendFormat,
    })),
  };
}

function variable(name, label, query) {
  return { name, label, type: 'query', datasource, query, refresh: 2, sort: 1, includeAll: false, multi: false };
}

/** `[name, JSON]` of each. */
export function dashboards() {
  return Object.entries(DASHBOARDS).map(([name, { title, panels }]) => {
    const dashboard = {
      uid: `carrierarr-${name}`,
      title,
      tags: ['carrierarr'],
      schemaVersion: 39,
      version: 1,
      editable: true,
      refresh: '30s',
      time: { from: 'now-3h', to: 'now' },
      templating: {
        list: [
          { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus' },
          variable('namespace', 'Namespace', 'label_values(carrierarr_build_info, namespace)'),
          {
            ...variable('release', 'Installation', 'label_values(carrierarr_build_info{namespace="$namespace"}, pod)'),
            regex: '/^(.+)-(?:gateway|runner|monitor)-/',
          },
        ],
      },
      panels: panels.map(drawn),
    };
    return [name, `${JSON.stringify(dashboard, null, 2)}\n`];
  });
}
