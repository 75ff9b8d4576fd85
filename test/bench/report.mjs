/** Results as people read them: medians with ranges, ratios pair by pair, goals. Pure. */
import { OURS } from './systems.mjs';

/** @typedef {{ scenario: string, system: string, round: number, metrics?: import('./measure.mjs').Metrics, error?: string }} Run */

const columnsByKind = {
  flow: [
    'deliveredPerSecond',
    'cpuMicrosPerLine',
    'redisCpuMicrosPerLine',
    'latencyP50Ms',
    'latencyP99Ms',
    'missingPercent',
    'linesPerFrame',
    'rssGrowthMiB',
    'serverCpuShare',
    'loadCpuShare',
  ],
  stall: [
    'deliveredPerSecond',
    'latencyP99BeforeMs',
    'latencyP99Ms',
    'rssGrowthMiB',
    'rssDriftMiB',
    'missingPercent',
    'stalledMissingPercent',
    'serverCpuShare',
    'loadCpuShare',
  ],
  idle: ['rssPerConnectionKiB', 'connectCpuMicros', 'connectsPerSecond', 'loadCpuShare'],
  pipeline: [
    'deliveredPerSecond',
    'cpuMicrosPerLine',
    'redisCpuMicrosPerLine',
    'latencyP50Ms',
    'latencyP99Ms',
    'missingLines',
    'linesPerFrame',
    'loadCpuShare',
  ],
};

/** @param {number[]} values */
const median = (values) => {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

const show = (value) => {
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en-US');
  return String(Number(value.toPrecision(3)));
};

/** Median, and the range when there was more than one round. */
const spread = (values) => {
  const known = values.filter((value) => Number.isFinite(value));
  if (known.length === 0) return '-';
  if (known.length === 1) return show(known[0]);
  return `${show(median(known))} (${show(Math.min(...known))} - ${show(Math.max(...known))})`;
};

/** latencyP50Ms -> latency p50 ms, rssGrowthMiB -> rss growth MiB */
const title = (metric) =>
  metric
    .split(/(?=[A-Z])(?<!Mi|Ki)/)
    .map((word) => (/^[MK]iB$/.test(word) ? word : word.toLowerCase()))
    .join(' ');

/** @param {Run[]} runs */
const valuesOf = (runs, scenario, system, metric) =>
  runs
    .filter((run) => run.scenario === scenario && run.system === system)
    .map((run) => run.metrics?.[metric] ?? Number.NaN);

/** @param {import('./scenarios.mjs').Scenario} scenario @param {Run[]} runs */
export const scenarioTable = (scenario, runs) => {
  const mine = runs.filter((run) => run.scenario === scenario.name);
  const systems = [...new Set(mine.map((run) => run.system))];
  const columns = columnsByKind[scenario.kind];
  const clients = scenario.connections.toLocaleString('en-US');
  const row = (cells) => `| ${cells.join(' | ')} |`;
  const errors = mine.filter((run) => run.error).map((run) => `\n${run.system}, round ${run.round}: ${run.error}`);
  return [
    `### ${scenario.name}: ${scenario.says} (${clients} client${scenario.connections === 1 ? '' : 's'})`,
    '',
    row(['system', ...columns.map(title)]),
    row(['---', ...columns.map(() => '---:')]),
    ...systems.map((system) =>
      row([system, ...columns.map((metric) => spread(valuesOf(runs, scenario.name, system, metric)))]),
    ),
    ...errors,
    '',
  ].join('\n');
};

/** Ours against a reference in the same round, so that drift of the machine cancels out. */
const compare = (goal, runs) => {
  const ours = valuesOf(runs, goal.scenario, OURS, goal.metric);
  if (!goal.versus) return ours;
  const theirs = valuesOf(runs, goal.scenario, goal.versus, goal.metric);
  return ours.map((value, i) => (goal.plus === undefined ? value / theirs[i] : value - theirs[i]));
};

/** @param {import('./scenarios.mjs').Goal[]} goals @param {Run[]} runs */
export const goalTable = (goals, runs) => {
  const rows = goals.flatMap((goal) => {
    const values = compare(goal, runs).filter((value) => Number.isFinite(value));
    if (values.length === 0) return [];
    const bound = goal.plus ?? goal.atMost ?? goal.atLeast ?? 0;
    // Nothing may be missing in any round; everything else goes by the median.
    const value = bound === 0 ? Math.max(...values) : median(values);
    const met = goal.atLeast === undefined ? value <= bound : value >= bound;
    const against = goal.versus ? (goal.plus === undefined ? ` / ${goal.versus}` : ` - ${goal.versus}`) : '';
    const wanted = `${goal.atLeast === undefined ? 'at most' : 'at least'} ${show(bound)}`;
    return [
      `| ${goal.scenario} | ${title(goal.metric)}${against} | ${wanted} | ${spread(values)} | ${met ? 'met' : '**missed**'} |`,
    ];
  });
  if (rows.length === 0) return '';
  return ['### Goals', '', '| scenario | metric | wanted | measured | |', '|---|---|---:|---:|---|', ...rows, ''].join(
    '\n',
  );
};
