/**
 * What is measured and what is to be reached, as data.
 *
 * A *scenario* is run once per system and round. Kinds: `flow` (lines from Redis to many sockets), `stall`
 * (a flow during which some clients stop reading), `idle` (connections that do nothing), `pipeline` (a
 * script's lines to one socket). A *goal* compares one metric of our system with a number or with a reference.
 */

/**
 * @typedef {object} Scenario
 * @property {string} name
 * @property {'flow' | 'stall' | 'idle' | 'pipeline'} kind
 * @property {string} says what it is, for the report
 * @property {number} connections
 * @property {number} [targets] default 1; connection i follows target i mod targets
 * @property {boolean} [everything] clients do not subscribe, so they get all targets, as old clients do
 * @property {number} [linesPerSecond] over all targets; without it, as fast as the lines are delivered
 * @property {number} [seconds] measured, after the warm-up
 * @property {number} [warmUpSeconds] default 1.5
 * @property {number} [checkEvery] look into the lines of every n-th connection, default 1
 * @property {boolean} [lazy] the other connections are read every 5 ms, or the load client would need a core
 * @property {number} [stalled] connections that stop reading
 * @property {number} [lines] pipeline: how many the script writes
 * @property {string[]} [without] systems that cannot keep up by an order of magnitude and would only queue
 * @property {Partial<Scenario>} [quick] what `--quick` changes
 */

/** @type {Scenario[]} */
export const scenarios = [
  {
    name: 'hot',
    kind: 'flow',
    says: 'one target, as fast as it goes',
    connections: 1000,
    seconds: 8,
    checkEvery: 50,
    quick: { seconds: 3 },
  },
  {
    name: 'steady',
    kind: 'flow',
    says: 'one target, 50 lines/s',
    connections: 1000,
    linesPerSecond: 50,
    seconds: 10,
    quick: { seconds: 3 },
  },
  {
    name: 'many',
    kind: 'flow',
    says: '100 targets, 10 lines/s each, 10 clients on each',
    connections: 1000,
    targets: 100,
    linesPerSecond: 1000,
    // A thousand small messages a second: V8 takes about that long until it has compiled what handles them.
    warmUpSeconds: 15,
    seconds: 10,
    quick: { seconds: 3, warmUpSeconds: 1.5 },
  },
  {
    name: 'thousand',
    kind: 'flow',
    says: 'one target, 1,000 lines/s',
    connections: 1000,
    linesPerSecond: 1000,
    seconds: 10,
    checkEvery: 10,
    lazy: true,
    without: ['ws-redis', 'socketio'],
    quick: { seconds: 3 },
  },
  {
    name: 'everything',
    kind: 'flow',
    says: '100 targets, 10 lines/s each, every client gets all of them (old clients)',
    connections: 1000,
    targets: 100,
    everything: true,
    linesPerSecond: 1000,
    seconds: 10,
    checkEvery: 10,
    lazy: true,
    without: ['ws-redis', 'socketio'],
    quick: { seconds: 3 },
  },
  {
    name: 'stall',
    kind: 'stall',
    says: 'one target, 10,000 lines/s, 20 clients read, 20 more stop for 10 s',
    connections: 40,
    stalled: 20,
    linesPerSecond: 10_000,
    // Until what is kept of recent output is full, after which memory must stay as it is.
    warmUpSeconds: 25,
    seconds: 10,
    checkEvery: 1,
  },
  {
    name: 'idle',
    kind: 'idle',
    says: 'connections that do nothing',
    connections: 10_000,
    quick: { connections: 4000 },
  },
  {
    name: 'pipeline',
    kind: 'pipeline',
    says: 'a script that writes as fast as it can, one subscriber',
    connections: 1,
    lines: 3_000_000,
    quick: { lines: 500_000 },
  },
];

/**
 * @typedef {object} Goal
 * @property {string} scenario
 * @property {string} metric a key of `Metrics` in measure.mjs
 * @property {string} [versus] the reference; the value is then ours divided by its, pair by pair in each round
 * @property {number} [plus] with `versus`: the value is ours minus its, and may be at most this
 * @property {number} [atLeast]
 * @property {number} [atMost]
 */

const nothingMissing = (scenario) => ({ scenario, metric: 'missingLines', atMost: 0 });

/** @type {Goal[]} */
export const goals = [
  nothingMissing('hot'),
  { scenario: 'hot', metric: 'deliveredPerSecond', versus: 'uws-tick', atLeast: 0.9 },
  { scenario: 'hot', metric: 'deliveredPerSecond', versus: 'ws-redis', atLeast: 100 },
  ...['steady', 'many'].flatMap((scenario) => [
    nothingMissing(scenario),
    { scenario, metric: 'cpuMicrosPerLine', versus: 'uws-bare', atMost: 1.15 },
    { scenario, metric: 'cpuMicrosPerLine', versus: 'ws-redis', atMost: 0.75 },
    { scenario, metric: 'latencyP50Ms', versus: 'uws-bare', atMost: 1.2 },
    { scenario, metric: 'latencyP99Ms', versus: 'uws-bare', atMost: 1.3 },
  ]),
  ...['thousand', 'everything'].flatMap((scenario) => [
    nothingMissing(scenario),
    { scenario, metric: 'cpuMicrosPerLine', versus: 'uws-tick', atMost: 0.75 },
  ]),
  nothingMissing('stall'),
  { scenario: 'stall', metric: 'rssGrowthPerStalledMiB', atMost: 2 },
  { scenario: 'stall', metric: 'rssDriftMiB', atMost: 4 },
  { scenario: 'stall', metric: 'healthyP99Ratio', atMost: 2 },
  { scenario: 'idle', metric: 'rssPerConnectionKiB', versus: 'uws-bare', plus: 2 },
  { scenario: 'idle', metric: 'connectCpuMicros', versus: 'ws-redis', atMost: 0.25 },
  nothingMissing('pipeline'),
  { scenario: 'pipeline', metric: 'deliveredPerSecond', atLeast: 500_000 },
  { scenario: 'pipeline', metric: 'deliveredPerSecond', versus: 'websocketd', atLeast: 3 },
  { scenario: 'pipeline', metric: 'cpuMicrosPerLine', versus: 'websocketd', atMost: 0.4 },
];
