/** The chart's README: its tables are made of the comments in values.yaml (`# --` before a value, `# @section` before some). */
import { isMap, isScalar, parseDocument } from 'yaml';

const KUBERNETES = 'as in Kubernetes';
/** Values that mean in every component what they mean in Kubernetes. */
const WELL_KNOWN = new Set([
  ...['nodeSelector', 'tolerations', 'affinity', 'priorityClassName', 'podLabels', 'podAnnotations', 'annotations'],
  ...['extraEnv', 'extraEnvFrom', 'extraVolumes', 'extraVolumeMounts', 'extraContainers', 'extraInitContainers'],
  ...['labels', 'interval', 'minReplicas', 'maxReplicas', 'resources'],
]);

/** One row of a table: a value that is set by itself, or a map that is documented as a whole. */
function rowsOf(map, prefix, rows = []) {
  for (const [index, { key, value }] of map.items.entries()) {
    const path = prefix === '' ? key.value : `${prefix}.${key.value}`;
    // The comment before a map's first key belongs to the map, as YAML is read.
    const comments = [key.commentBefore, index === 0 ? map.commentBefore : undefined].filter(Boolean).join('\n');
    const section = /^ @section (.+)$/m.exec(comments)?.[1];
    const doc = /^ -- ([\s\S]*)/m.exec(comments)?.[1]?.replaceAll(/\n */g, ' ');
    if (section !== undefined) rows.push({ section });
    const isWhole = doc !== undefined || WELL_KNOWN.has(key.value) || !isMap(value) || value.items.length === 0;
    if (!isWhole) rowsOf(value, path, rows);
    else rows.push({ path, doc: doc ?? '', value });
  }
  return rows;
}

function printed(value) {
  if (isScalar(value) && value.value === '') return '';
  if (isScalar(value) && value.value === null) return '';
  const text = JSON.stringify(value.toJSON());
  return text === '{}' || text === '[]' ? `\`${text}\`` : `\`${text.replaceAll('|', '\\|')}\``;
}

/** The text of README.md. Throws for a value that nobody explains. */
export function chartReadme(valuesText, { version, kubeVersion }) {
  const rows = rowsOf(parseDocument(valuesText).contents, '');
  const isExplained = ({ path, doc }) => doc !== '' || WELL_KNOWN.has(path.split('.').at(-1));
  const bare = rows.filter((row) => row.section === undefined && !isExplained(row)).map(({ path }) => path);
  if (bare.length > 0) throw new Error(`values.yaml says nothing (# --) of: ${bare.join(', ')}.`);
  const tables = rows.map((row) =>
    row.section === undefined
      ? `| \`${row.path}\` | ${printed(row.value)} | ${(row.doc || KUBERNETES).replaceAll('|', '\\|')} |`
      : `\n### ${row.section}\n\n| value | default | meaning |\n| --- | --- | --- |`,
  );
  return `# The carrierarr chart

Made of the comments in \`values.yaml\` by \`npm run docs\`; do not edit.

Version ${version}, for Kubernetes ${kubeVersion.replace('>=', '').replace('-0', '')} or newer and Helm 3.16 or newer. [Install in a
cluster](../../../docs/how-to/install-in-a-cluster.md) leads through it.

\`\`\`sh
# needs a cluster
helm upgrade --install carrierarr deploy/helm/carrierarr --namespace carrierarr --create-namespace --values my-values.yaml
\`\`\`

It makes Deployments of gateways, runners and monitors, each with a ConfigMap, a ServiceAccount, a PodDisruptionBudget, an internal
Service for metrics and NetworkPolicies; the public Service of the gateways; a Secret with a token; and a Valkey for trials.
Off until asked for: agents over gRPC (a Service, a GRPCRoute or an Ingress) and RabbitMQ, Ingress or HTTPRoute, autoscalers, a
ServiceMonitor or PodMonitor, alerts, dashboards.

\`values.schema.json\` refuses what it does not know, and combinations that would hurt are refused with the reason. Examples that are
tested: the files in \`ci/\`.

## Values
${tables.join('\n')}
`;
}
