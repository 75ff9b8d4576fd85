import { execFileSync, spawnSync } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';

const root = resolve(import.meta.dirname, '../..');
const protocol = join(root, 'libs/protocol');
const buf = join(root, 'node_modules/.bin/buf');
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'carrierarr-proto-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function files(dir: string): Promise<Record<string, string>> {
  const names = (await readdir(dir, { recursive: true })).filter((name) => name.endsWith('.ts'));
  return Object.fromEntries(
    await Promise.all(names.toSorted().map(async (name) => [name, await readFile(join(dir, name), 'utf8')] as const)),
  );
}

const breaking = (proto: string) =>
  spawnSync(buf, ['breaking', proto, '--against', join(root, 'test/fixtures/agent-wire')], { encoding: 'utf8' });

it('has generated code that is what the proto file makes', async () => {
  execFileSync(buf, ['generate', '-o', folder], { cwd: protocol });
  const made = await files(join(folder, 'src/agent-control/generated'));
  expect(Object.keys(made)).toContain('ec2agent/v1/agent.ts');
  // `npm run generate -w @carrierarr/protocol` makes it anew.
  expect(await files(join(protocol, 'src/agent-control/generated'))).toEqual(made);
});

it('keeps to the linter of proto files and to its format', () => {
  expect(spawnSync(buf, ['lint'], { cwd: protocol, encoding: 'utf8' })).toMatchObject({ status: 0, stdout: '' });
  expect(spawnSync(buf, ['format', '-d', '--exit-code'], { cwd: protocol }).status).toBe(0);
});

it('breaks nothing that agents in use today speak', async () => {
  expect(breaking(join(protocol, 'proto'))).toMatchObject({ status: 0, stdout: '' });
  // And a change that would is seen.
  const broken = join(folder, 'broken');
  await cp(join(protocol, 'proto'), broken, { recursive: true });
  const file = join(broken, 'ec2agent/v1/agent.proto');
  const text = await readFile(file, 'utf8');
  await writeFile(
    file,
    text
      .replace('string nebula_ip = 4; ', 'bytes nebula_ip = 4; ')
      .replace('int32 exit_code = 3', 'int64 exit_code = 3'),
  );
  expect(breaking(broken).stdout).toContain('exit_code');
});
