/**
 * The guides about clusters leave nothing to guess: commands that need nothing are executed, those that need a cluster are
 * held against the chart, and every piece of values is rendered.
 */
import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { agentSchema, validateAgentConfig } from '@carrierarr/agent';
import { loadConfig } from '@carrierarr/platform';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse, parseAllDocuments, stringify } from 'yaml';
import { hasKubectl, helm, helmMissing, kubectl, readRepository, toolsPath } from '../../support/deploy-tools.js';
import { WORKSPACE } from '../../support/programs.js';
import { CHART, type KubernetesObject, RENDER_MS } from './chart.js';

const GUIDES = [
  'docs/how-to/install-in-a-cluster.md',
  'docs/how-to/let-clients-in.md',
  'docs/how-to/let-agents-in.md',
] as const;
const blocksOf = (path: string, language: string): string[] =>
  [...readRepository(path).matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(
    (match) => match[1] ?? '',
  );

const valuesIn = (path: string): Record<string, unknown>[] =>
  blocksOf(path, 'yaml').map((text) => parse(text) as Record<string, unknown>);
const shell = GUIDES.flatMap((path) => blocksOf(path, 'sh'));
const NEEDS = /^# needs (a cluster|a machine|Docker|AWS)\n/;
const commands = (needs: string): string[] =>
  shell
    .filter((block) => NEEDS.exec(block)?.[1] === needs)
    .flatMap((block) => block.replaceAll('\\\n', ' ').split('\n').slice(1))
    .filter((line) => line.trim() !== '');

/** Maps are merged, everything else is replaced, as Helm does it. */
function merged(a: unknown, b: unknown): unknown {
  const isMap = (value: unknown): value is Record<string, unknown> =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isMap(a) || !isMap(b)) return b;
  return Object.fromEntries(
    [...new Set([...Object.keys(a), ...Object.keys(b)])].map((key) => [
      key,
      key in b ? merged(a[key], b[key]) : a[key],
    ]),
  );
}

describe.skipIf(helmMissing !== undefined)('the guide to an installation', { timeout: RENDER_MS }, () => {
  let folder: string;
  let objects: KubernetesObject[];

  beforeAll(async () => {
    // What a reader has: a checkout, and the file that the guide made.
    folder = mkdtempSync(join(tmpdir(), 'guide-'));
    cpSync(CHART, join(folder, 'deploy/helm/carrierarr'), { recursive: true });
    symlinkSync(join(WORKSPACE, 'examples'), join(folder, 'examples'));
    const all = valuesIn('docs/how-to/install-in-a-cluster.md').reduce<unknown>(merged, {}) as {
      runner: { script: { path?: string } };
    };
    // Two ways to give a script; a reader takes one.
    delete all.runner.script.path;
    writeFileSync(join(folder, 'my-values.yaml'), stringify(all));
    const text = await helm('template', 'carrierarr', CHART, '--namespace', 'carrierarr');
    objects = parseAllDocuments(text).map((document) => document.toJS() as KubernetesObject);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const has = (kind: RegExp, name: string) =>
    objects.some((object) => kind.test(object.kind) && object.metadata.name === name);

  test('has commands for a cluster, for Docker and for AWS, and says which', () => {
    expect(commands('a cluster').length).toBeGreaterThan(12);
    expect(commands('Docker').length).toBeGreaterThan(2);
    expect(commands('AWS').length).toBeGreaterThan(2);
  });

  test('has other commands that can be executed as they are', async () => {
    const others = shell.filter((block) => !NEEDS.test(block));
    expect(others.length).toBeGreaterThan(1);
    const env = {
      ...process.env,
      PATH: `${toolsPath}${delimiter}${process.env['PATH'] ?? ''}`,
      KUBECONFIG: '/nonexistent',
    };
    for (const block of others) {
      await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', block], { cwd: folder, env });
    }
  });

  test('gives helm commands that render', async () => {
    const lines = commands('a cluster').filter((line) => /^helm (upgrade|install)/.test(line));
    expect(lines.length).toBeGreaterThan(2);
    for (const line of lines) {
      // Flags that have to do with the cluster are for it alone.
      const words = line
        .replace(/^helm (upgrade --install|upgrade|install)/, 'template')
        .replaceAll(/ --(create-namespace|atomic|timeout \S+)/g, '')
        .split(/\s+/)
        .map((word) =>
          word.replace('deploy/helm/carrierarr', CHART).replace('my-values.yaml', join(folder, 'my-values.yaml')),
        );
      expect(await helm(...words)).toContain('kind: Deployment');
    }
  });

  test('drains nodes by what pods of the chart need for that', () => {
    const drains = commands('a cluster').filter((line) => line.startsWith('kubectl drain '));
    expect(drains.length).toBe(1);
    const volumes = objects.flatMap(({ spec }) => spec?.template?.spec?.volumes ?? []);
    const hasOwnFolders = volumes.some((volume) => 'emptyDir' in volume);
    // Without it kubectl evicts none of them.
    expect(drains.every((line) => line.includes(' --delete-emptydir-data'))).toBe(hasOwnFolders);
    // A drain that gives up earlier than the longest command ends leaves its runner.
    expect(drains.filter((line) => line.includes('--timeout'))).toEqual([]);
  });

  test.skipIf(!hasKubectl)('gives kubectl commands that make objects', async () => {
    const lines = commands('a cluster').filter((line) => / create (secret|configmap) /.test(line));
    expect(lines.length).toBe(7);
    const files = ['tokens', 'helm-test-token', 'agent-tokens', 'rabbitmq-url'];
    for (const name of files) writeFileSync(join(folder, name), 'a b');
    for (const line of lines) {
      // What is piped into the cluster is made here by the same words.
      const words = line
        .replace(/ --dry-run=client --output yaml \| .*/, '')
        .replaceAll('"', '')
        .split(/\s+/)
        .slice(1);
      const args = [...words, '--dry-run=client', '--output', 'yaml'].map((word) =>
        word
          .replace('=examples', `=${folder}/examples`)
          .replace(/=([a-z-]+)$/, (all, name: string) => (files.includes(name) ? `=${folder}/${name}` : all)),
      );
      expect(await kubectl(...args)).toMatch(/^kind: (Secret|ConfigMap)$/m);
    }
  });

  test('gives agents flags that they know', () => {
    const lines = commands('a machine');
    expect(lines.length).toBe(2);
    for (const line of lines) {
      const [program, ...words] = line.split(/\s+/);
      // Files that they read at their start are of this test.
      const token = join(folder, 'agent-token');
      writeFileSync(token, '0123456789abcdef0123456789abcdef');
      const argv = words.map((word) => (word.startsWith('/etc/carrierarr/') ? token : word));
      const loaded = loadConfig({ program: 'test', summary: '', schema: agentSchema, argv, env: {} });
      expect([program, loaded.kind]).toEqual(['carrierarr-agent', 'config']);
      if (loaded.kind === 'config') validateAgentConfig(loaded.values);
    }
  });

  test('names objects that are there', () => {
    const text = commands('a cluster').join('\n');
    expect([...text.matchAll(/service\/([\w-]+)/g)].filter((match) => !has(/^Service$/, match[1] ?? ''))).toEqual([]);
    expect([...text.matchAll(/get secret ([\w-]+)/g)].filter((match) => !has(/^Secret$/, match[1] ?? ''))).toEqual([]);
    expect([...text.matchAll(/delete pod ([\w-]+)/g)].filter((match) => !has(/^Pod$/, match[1] ?? ''))).toEqual([]);
    const claims = [...text.matchAll(/persistentvolumeclaim data-([\w-]+)-0/g)].map((match) => match[1] ?? '');
    expect(claims.map((name) => has(/^StatefulSet$/, name))).toEqual([true]);
    for (const component of ['runner', 'monitor'])
      expect(has(/^ServiceAccount$/, `carrierarr-${component}`)).toBe(true);
  });

  test('makes no Secret and no ConfigMap by a name that the trial took already', () => {
    const made = [
      ...commands('a cluster')
        .join('\n')
        .matchAll(/ create (?:secret generic|configmap) ([\w-]+)/g),
    ];
    expect(made.length).toBeGreaterThan(5);
    expect(made.filter((match) => has(/^(Secret|ConfigMap)$/, match[1] ?? '')).map(([line]) => line)).toEqual([]);
  });

  test('builds images that the chart then pulls', () => {
    const text = commands('Docker').join('\n');
    const roles = /for role in ([\w ]+);/.exec(text)?.[1]?.split(' ') ?? [];
    const wanted = ['gateway', 'runner', 'monitor'].toSorted();
    expect(roles.toSorted()).toEqual(wanted);
    const dockerfile = readRepository('Dockerfile');
    for (const role of roles) expect(dockerfile).toContain(` AS ${role}\n`);
  });
});

describe.skipIf(helmMissing !== undefined).each(GUIDES)('%s', { timeout: RENDER_MS }, (path) => {
  test.each(valuesIn(path).map((values, index) => [index + 1, Object.keys(values).join(', '), values] as const))(
    'has a %i. piece of values that the chart takes: %s',
    async (_, __, values) => {
      const folder = mkdtempSync(join(tmpdir(), 'guide-'));
      try {
        const file = join(folder, 'values.yaml');
        // A piece that only adds to one before it is rendered with what it adds to.
        const route = values['httpRoute'] as { enabled?: boolean } | undefined;
        const base = route && !route.enabled ? { httpRoute: { enabled: true, parentRefs: [{ name: 'public' }] } } : {};
        writeFileSync(file, stringify(merged(base, values)));
        expect(await helm('template', 'carrierarr', CHART, '--values', file)).toContain('kind: Deployment');
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  );
});
