/** What of the chart is made out of something else: its text by its path in the repository. */
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { settingBounds } from './bounds.mjs';
import { dashboards } from './dashboards.mjs';
import { chartReadme } from './readme.mjs';
import { valuesSchema } from './schema.mjs';

const CHART = 'deploy/helm/carrierarr';
const read = (name) => readFileSync(new URL(`../../${CHART}/${name}`, import.meta.url), 'utf8');

export function chartFiles() {
  const chart = parse(read('Chart.yaml'));
  return [
    [`${CHART}/values.schema.json`, valuesSchema()],
    [`${CHART}/bounds.json`, settingBounds()],
    [`${CHART}/README.md`, chartReadme(read('values.yaml'), chart)],
    ...dashboards().map(([name, text]) => [`${CHART}/dashboards/${name}.json`, text]),
  ];
}
