/** Pages that promise to have everything: each row is held against the code. */
import { accessSync, constants } from 'node:fs';
import { agentSchema } from '@carrierarr/agent';
import { upSchema } from '@carrierarr/cli';
import { type ConfigSchema, resolveKeys } from '@carrierarr/platform';
import { CLOSE_CODES, ERRORS } from '@carrierarr/protocol';
import { describe, expect, it } from 'vitest';
import { readRepository } from '../support/deploy-tools.js';

const MIGRATION = 'docs/how-to/move-a-go-installation.md';
const TROUBLE = 'docs/how-to/troubleshooting.md';
const CAPACITY = 'docs/how-to/plan-capacity.md';

/** Cells of the rows under a heading, backticks taken away. */
function rows(path: string, heading: string): string[][] {
  const section =
    readRepository(path)
      .split(/^## /m)
      .find((text) => text.startsWith(heading)) ?? '';
  const lines = section.split('\n').filter((line) => line.startsWith('| `'));
  return lines.map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll('`', '')),
  );
}

describe('the page that moves a Go installation over', () => {
  const table = rows(MIGRATION, 'Flags');
  /** Flags that existing installations use, with their defaults there. */
  const SERVER = {
    ...{ addr: ':8090', script: '', 'ec2-tags': '', 'ecs-cluster': '', poll: '30s', 'grpc-addr': ':50051' },
    ...{ 'stale-timeout': '2m', 'dead-threshold': '5m', 'auto-terminate-dead': 'false' },
    ...{ 'rabbitmq-url': '', 'rabbitmq-vhost': 'agents' },
  };
  const AGENT = {
    ...{ 'control-plane': '', type: '', 'health-port': '8080', 'instance-id': '', 'nebula-ip': '', 'public-ip': '' },
    ...{ region: '', az: '', 'rabbitmq-url': '' },
  };

  it.each([
    ['carrierarr up', SERVER, upSchema as ConfigSchema],
    ['carrierarr agent', AGENT, agentSchema as ConfigSchema],
  ])('has each flag of %s as it was, and as the program has it now', (program, old, schema) => {
    const listed = table.filter((row) => row[3] === program);
    expect(listed.map(([flag, was]) => [flag, was])).toEqual(
      Object.entries(old).map(([flag, was]) => [`-${flag}`, was]),
    );
    const keys = new Map(resolveKeys(schema).map((key) => [`-${key.flag}`, key]));
    for (const [flag = '', , is] of listed) {
      const key = keys.get(flag);
      expect([flag, key === undefined]).toEqual([flag, false]);
      const value = key?.defaultValue ?? '';
      const text = typeof value === 'string' ? value : (key?.definition.print?.(value) ?? JSON.stringify(value));
      expect([flag, is]).toEqual([flag, value === '' ? '' : text]);
    }
  });
});

describe('the page on troubleshooting', () => {
  const named = (heading: string) => rows(TROUBLE, heading).map(([code]) => code);

  it('has each error code, in the order of the table', () => expect(named('Errors')).toEqual(Object.keys(ERRORS)));
  it('has each close code', () => expect(named('Close codes')).toEqual(Object.keys(CLOSE_CODES)));
  it('has each condition', () => {
    const source = readRepository('libs/reconcile/src/conditions.ts');
    const types = /export type ConditionType =([^;]*);/.exec(source)?.[1] ?? '';
    expect(named('Conditions')).toEqual([...types.matchAll(/'(\w+)'/g)].map((match) => match[1]));
  });
  it('says of each what to do', () => {
    for (const heading of ['Errors', 'Close codes', 'Conditions']) {
      for (const [code, advice = ''] of rows(TROUBLE, heading))
        expect([code, advice.length > 10]).toEqual([code, true]);
    }
  });
});

it('the page on capacity has no figure in bold that was not measured', () => {
  const figures = [...readRepository(CAPACITY).matchAll(/\*\*([\d.,]+)\*\*/g)].map((match) => match[1] ?? '');
  expect(figures.length).toBeGreaterThan(10);
  const measured = new Set(readRepository('docs/benchmarks.md').match(/[\d][\d.,]*\d|\d/g));
  expect(figures.filter((figure) => !measured.has(figure))).toEqual([]);
});

it.each([MIGRATION, TROUBLE, CAPACITY, 'docs/how-to/backup-and-restore.md'])(
  'names only flags that some program has: %s',
  (path) => {
    const known = new Set(readRepository('docs/reference/configuration.md').match(/(?<=`--)[\w-]+/g));
    // Of other programs.
    for (const other of ['replicas', 'only', 'rounds']) known.add(other);
    const named = readRepository(path).match(/(?<=[\s`(]--)[a-z][\w-]+/g) ?? [];
    expect(named.filter((flag) => !known.has(flag))).toEqual([]);
  },
);

it('the page on images calls scripts that can be executed', () => {
  const called = [...readRepository('docs/how-to/build-images.md').matchAll(/^sudo (\S+\.sh)/gm)].map(
    (match) => match[1],
  );
  expect(called).toEqual(['deploy/images/make-base.sh']);
  for (const path of called) accessSync(new URL(`../../${path}`, import.meta.url), constants.X_OK);
});
