/**
 * What CloudWatch measured of instances: CPU, network, status checks. Opt-in, since AWS charges for each metric that is
 * asked for. Four metrics an instance, at most 500 a call, so a call serves 125 instances.
 */
import {
  type CloudWatchClient,
  GetMetricDataCommand,
  type MetricDataQuery,
  type MetricDataResult,
} from '@aws-sdk/client-cloudwatch';
import type { WorkerMetrics } from '@carrierarr/protocol';
import { type AwsCallContext, budgeted, explainAwsError, type Tally } from './aws-call.js';

/** Most metrics of one call of GetMetricData. */
export const METRICS_PER_CALL_MAX = 500;
/** How far back is looked: CloudWatch shows a measurement some minutes late. */
const PERIODS_BACK = 3;

/** What is asked for of each instance. */
const MEASURES = [
  { key: 'cpu', metric: 'CPUUtilization', stat: 'Average' },
  { key: 'in', metric: 'NetworkIn', stat: 'Sum' },
  { key: 'out', metric: 'NetworkOut', stat: 'Sum' },
  { key: 'check', metric: 'StatusCheckFailed', stat: 'Maximum' },
] as const;
type MeasureKey = (typeof MEASURES)[number]['key'];

export interface InstanceMetricsOptions extends AwsCallContext {
  readonly client: CloudWatchClient;
  readonly region: string;
  /** 60 needs detailed monitoring, which costs extra; else there is a value each 300 s. */
  readonly periodSeconds: 60 | 300;
}

interface Point {
  readonly value: number;
  readonly atMs: number;
}

export class InstanceMetrics {
  readonly #options: InstanceMetricsOptions;
  #metrics: ReadonlyMap<string, WorkerMetrics> = new Map();

  constructor(options: InstanceMetricsOptions) {
    this.#options = options;
  }

  of(instanceId: string): WorkerMetrics | undefined {
    return this.#metrics.get(instanceId);
  }

  /** Asks for the instances' newest values; returns the calls made. What was known is kept when it throws. */
  async refresh(instanceIds: readonly string[], signal: AbortSignal): Promise<number> {
    const tally: Tally = { service: 'cloudwatch', region: this.#options.region, signal, calls: 0 };
    const metrics = new Map<string, WorkerMetrics>();
    const chunk = Math.floor(METRICS_PER_CALL_MAX / MEASURES.length);
    for (let from = 0; from < instanceIds.length; from += chunk) {
      const ids = instanceIds.slice(from, from + chunk);
      const points = await this.#ask(ids, tally);
      for (const [index, id] of ids.entries()) {
        const measured = this.#metricsFrom((key) => points.get(`${key}${index}`));
        if (measured) metrics.set(id, measured);
      }
    }
    this.#metrics = metrics;
    return tally.calls;
  }

  /** The newest point of each query, by its id. */
  async #ask(instanceIds: readonly string[], tally: Tally): Promise<Map<string, Point>> {
    const { client, clock, periodSeconds } = this.#options;
    const periodMs = periodSeconds * 1000;
    // Whole periods that are over: of a period that goes on, the sums are those of a part.
    const endMs = Math.floor(clock.now() / periodMs) * periodMs;
    const points = new Map<string, Point>();
    let token: string | undefined;
    do {
      const command = new GetMetricDataCommand({
        MetricDataQueries: instanceIds.flatMap((id, index) => queriesFor(id, index, periodSeconds)),
        StartTime: new Date(endMs - PERIODS_BACK * periodMs),
        EndTime: new Date(endMs),
        ScanBy: 'TimestampDescending',
        ...(token === undefined ? {} : { NextToken: token }),
      });
      try {
        const page = await client.send(budgeted(command, 'GetMetricData', tally, this.#options), {
          abortSignal: tally.signal,
        });
        for (const result of page.MetricDataResults ?? []) keepNewest(points, result);
        token = page.NextToken || undefined;
      } catch (error) {
        throw explainAwsError(error, 'GetMetricData', tally);
      }
    } while (token !== undefined);
    return points;
  }

  #metricsFrom(pointOf: (key: MeasureKey) => Point | undefined): WorkerMetrics | undefined {
    const { periodSeconds } = this.#options;
    const [cpu, input, output, check] = [pointOf('cpu'), pointOf('in'), pointOf('out'), pointOf('check')];
    const times = [cpu, input, output, check].flatMap((point) => (point ? [point.atMs] : []));
    if (times.length === 0) return undefined;
    const perSecond = (point: Point) => Math.round(point.value / periodSeconds);
    return {
      ...(cpu ? { cpu_percent: Math.round(cpu.value * 10) / 10 } : {}),
      ...(input ? { network_in_bytes_per_second: perSecond(input) } : {}),
      ...(output ? { network_out_bytes_per_second: perSecond(output) } : {}),
      ...(check ? { status_check_failed: check.value > 0 } : {}),
      // A point carries the begin of its period.
      measured_at: new Date(Math.max(...times) + periodSeconds * 1000).toISOString(),
    };
  }
}

function queriesFor(instanceId: string, index: number, periodSeconds: number): MetricDataQuery[] {
  return MEASURES.map(({ key, metric, stat }) => ({
    Id: `${key}${index}`,
    MetricStat: {
      Metric: {
        Namespace: 'AWS/EC2',
        MetricName: metric,
        Dimensions: [{ Name: 'InstanceId', Value: instanceId }],
      },
      Period: periodSeconds,
      Stat: stat,
    },
  }));
}

/** One query's values may come on several pages. */
function keepNewest(points: Map<string, Point>, { Id = '', Timestamps = [], Values = [] }: MetricDataResult): void {
  for (const [index, time] of Timestamps.entries()) {
    const value = Values[index];
    const known = points.get(Id);
    if (value === undefined || (known && known.atMs >= time.getTime())) continue;
    points.set(Id, { value, atMs: time.getTime() });
  }
}
