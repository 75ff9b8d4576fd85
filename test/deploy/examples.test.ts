/** Examples and guides for the control scripts say what the scripts and the resources understand. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { manifestSchema } from '@carrierarr/protocol';
import { describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';

const root = fileURLToPath(new URL('../../', import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const list = (folder: string, ending: string): string[] =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith(ending))
    .map((name) => join(folder, name));

const variables = (text: string, prefix: string): string[] =>
  [...new Set(text.match(new RegExp(`\\b(?:${prefix})_[A-Z0-9_]+`, 'g')) ?? [])].toSorted();

const scripts = {
  ec2: ['scripts/ec2-worker.sh', 'scripts/llm-worker.sh'].map(read).join('\n'),
  fargate: read('scripts/fargate-worker.sh'),
};

test.each([...list('examples/ec2', '.yaml'), ...list('examples/fargate', '.yaml')])(
  '%s holds resources that an apply takes',
  (path) => {
    const documents = parseAllDocuments(read(path));
    expect(documents.length).toBeGreaterThan(0);
    for (const document of documents)
      expect(manifestSchema.safeParse(document.toJS())).toMatchObject({ success: true });
  },
);

test.each([
  ['ec2', 'EC2_WORKER|LLM_WORKER', ['EC2_WORKER_CONFIG']],
  ['fargate', 'FARGATE_WORKER', ['FARGATE_WORKER_CONFIG']],
] as const)(
  'the guide to %s has a row for each variable that its scripts read, and no other',
  (name, prefix, others) => {
    const rows = [...read(`docs/how-to/control-${name}.md`).matchAll(/^\| `([A-Z0-9_]+)`/gm)].map(
      (row) => row[1] ?? '',
    );
    expect(variables([...rows, ...others].join('\n'), prefix)).toEqual(variables(scripts[name], prefix));
  },
);

describe.each([...list('examples/ec2', '.sh'), ...list('examples/fargate', '.sh')])('%s', (path) => {
  test('sets only variables that the scripts read', () => {
    const name = path.includes('fargate') ? 'fargate' : 'ec2';
    const known = new Set([...variables(scripts[name], '(?:EC2|LLM|FARGATE)_WORKER'), 'AWS_REGION']);
    const set = [...read(path).matchAll(/^([A-Z][A-Z0-9_]*)=/gm)].map((match) => match[1] ?? '');
    expect(set.length).toBeGreaterThan(3);
    expect(set.filter((variable) => !known.has(variable))).toEqual([]);
  });

  test('is bash', () => {
    expect(spawnSync('bash', ['-n', join(root, path)])).toMatchObject({ status: 0 });
  });
});
