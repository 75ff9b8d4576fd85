/** Metrics of a program under test, by names that it has: a misspelt one would else look like one that was never counted. */
import type { Registry } from '@carrierarr/platform';

/** Something counted: its labels, and how much. */
interface Value {
  labels: Partial<Record<string, string | number>>;
  value: number;
}

/** What was counted with these labels, by their other labels; empty if nothing was. Throws at a name or a label that is not known. */
export async function metricValues(
  registry: Registry,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<Value[]> {
  const metric = registry.getSingleMetric(name);
  if (metric === undefined) {
    const names = registry.getMetricsAsArray().map((each) => each.name);
    throw new Error(`Expected the name of a metric, got \`${name}\`. There are ${names.join(', ')}.`);
  }
  const { labelNames } = metric as unknown as { labelNames: readonly string[] };
  const unknown = Object.keys(labels).filter((label) => !labelNames.includes(label));
  if (unknown.length > 0) throw new Error(`${name} has no label ${unknown.join(', ')}, but ${labelNames.join(', ')}.`);
  const { values } = await metric.get();
  return values.filter((value) => Object.entries(labels).every(([label, text]) => value.labels[label] === text));
}
