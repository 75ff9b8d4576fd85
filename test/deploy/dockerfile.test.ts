/** What the Dockerfile says by itself, as far as it can be read without building. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { WORKSPACE } from '../support/programs.js';

const read = (path: string) => readFileSync(join(WORKSPACE, path), 'utf8');
const dockerfile = read('Dockerfile');

/** Arguments of the stage with this name that have a default, and labels; a long instruction is one line. */
function stage(name: string): { args: Map<string, string | undefined>; labels: Map<string, string> } {
  const [, rest = ''] = dockerfile.replaceAll('\\\n', '').split(new RegExp(`^FROM .* AS ${name}$`, 'm'));
  const [text = ''] = rest.split(/^FROM /m);
  const args = [...text.matchAll(/^ARG (\w+)(?:=(.*))?$/gm)].map(([, key = '', value]) => [key, value] as const);
  const labels = [...text.matchAll(/org\.opencontainers\.image\.([\w.]+)="([^"]*)"/g)];
  return { args: new Map(args), labels: new Map(labels.map(([, key = '', value = '']) => [key, value])) };
}

describe('the labels of an image', () => {
  const { args, labels } = stage('base');

  test('say where it comes from, what of and when, as whoever builds it says', () => {
    expect(Object.fromEntries(labels)).toMatchObject({
      version: '${VERSION}',
      revision: '${REVISION}',
      created: '${CREATED}',
      source: '${SOURCE}',
      url: '${URL}',
      'base.name': '${BASE_IMAGE}',
    });
    const used = [...labels.values()].flatMap((value) => /^\$\{(\w+)\}$/.exec(value)?.[1] ?? []);
    // An argument that a stage does not name is empty in it.
    expect(used.filter((name) => !args.has(name))).toEqual([]);
  });

  test('have no clock: a build of the same, told nothing, says the same', () => {
    expect(args.get('CREATED')).toBe(new Date(0).toISOString().replace('.000', ''));
    expect(dockerfile).not.toMatch(/\bdate\b/);
  });

  test('say the version that every package here has, and the chart', () => {
    const { version } = JSON.parse(read('package.json')) as { version: string };
    const packages = ['apps', 'libs']
      .flatMap((folder) => readdirSync(join(WORKSPACE, folder)).map((name) => `${folder}/${name}/package.json`))
      .filter((path) => existsSync(join(WORKSPACE, path)));
    const chart = parse(read('deploy/helm/carrierarr/Chart.yaml')) as { version: string; appVersion: string };
    expect(args.get('VERSION')).toBe(version);
    expect(chart).toMatchObject({ version, appVersion: version });
    expect(packages.length).toBeGreaterThan(5);
    for (const path of packages) expect([path, JSON.parse(read(path)) as unknown]).toMatchObject([path, { version }]);
  });
});

test('the agent is started with the flags for Node.js that its systemd unit has', () => {
  const flags = (line: string) => line.match(/--[a-z][\w=-]*(?=.*carrierarr-agent\.mjs)/g);
  const unit = /^ExecStart=(.*)$/m.exec(read('deploy/agent/carrierarr-agent.service'))?.[1] ?? '';
  const image = /^ENTRYPOINT (.*carrierarr-agent\.mjs.*)$/m.exec(dockerfile)?.[1] ?? '';
  expect(flags(unit)?.length).toBeGreaterThan(0);
  expect(flags(image)).toEqual(flags(unit));
});
