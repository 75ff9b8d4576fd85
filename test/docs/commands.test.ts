/**
 * Commands in the documents. `test/support/follow-pages.ts` executes them, and `test/deploy/helm/guide.test.ts` those of the guides
 * about clusters. Those that need something else say so, and are held here against what they would start.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { agentSchema, validateAgentConfig } from '@carrierarr/agent';
import { upSchema } from '@carrierarr/cli';
import { gatewaySchema, validateGatewayConfig } from '@carrierarr/gateway';
import { monitorSchema } from '@carrierarr/monitor';
import { type ConfigSchema, loadConfig } from '@carrierarr/platform';
import { manifestSchema } from '@carrierarr/protocol';
import { runnerSchema } from '@carrierarr/runner';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { hasKubectl, helm, helmMissing, kubectl, readRepository } from '../support/deploy-tools.js';
import { blocksOf, commandsOf, DOCUMENTS, isCommands, isShell } from '../support/documents.js';
import { WORKSPACE } from '../support/programs.js';

const blocks = DOCUMENTS.flatMap((path) => blocksOf(path).map((block) => ({ path, ...block })));
/** Commands that nobody executes here. */
const marked = blocks
  .filter((block) => isCommands(block) && block.needs !== undefined)
  .flatMap((block) =>
    commandsOf(block).map((command) => ({
      path: block.path,
      command: command.replaceAll(/\\\n\s*/g, '').replace(/\s+# .*$/, ''),
    })),
  );
const markedWith = (pattern: RegExp) => marked.filter(({ command }) => pattern.test(command));

it('has commands to look at', () => {
  expect(blocks.filter(isCommands).length).toBeGreaterThan(90);
  expect(marked.length).toBeGreaterThan(60);
});

describe('blocks', () => {
  it('are all that a page has, each with its end', () => {
    for (const path of DOCUMENTS)
      expect([path, readRepository(path).match(/^[ \t>]*(?:```|~~~)/gm)?.length ?? 0]).toEqual([
        path,
        2 * blocksOf(path).length,
      ]);
  });

  it('say what they are in words that tests know', () => {
    const known = new Set([...'sh console text yaml json js dockerfile nginx'.split(' '), '']);
    expect(blocks.filter(({ language }) => !known.has(language))).toEqual([]);
  });

  it('say nothing only if they are drawings', () => {
    const isPageOfDrawings = (path: string) => path === 'docs/architecture.md' || path.startsWith('docs/designs/');
    expect(blocks.filter(({ path, language }) => language === '' && !isPageOfDrawings(path))).toEqual([]);
  });

  /** What a block shows, as tests read it, and those of commands that have it below them. */
  const shown = DOCUMENTS.flatMap((path) => {
    const all = blocksOf(path);
    return all.flatMap((block, i) => (block.language === 'text' ? [{ path, text: block.text, by: all[i - 1] }] : []));
  });

  it('of what commands show stand below these', () => {
    expect(shown.length).toBeGreaterThan(8);
    expect(shown.filter(({ by }) => by === undefined || !isCommands(by) || by.needs !== undefined)).toEqual([]);
    expect(shown.filter(({ by }) => by?.shows.length === 0)).toEqual([]);
  });

  it('of commands in the tutorial each have what they show below them', () => {
    const steps = blocksOf('docs/tutorials/five-minutes.md').filter(({ language }) => language === 'sh');
    expect(steps.length).toBeGreaterThan(8);
    expect(steps.filter(({ shows }) => shows.length === 0)).toEqual([]);
  });
});

it('names in docs/README.md each need that a block has, and no other', () => {
  const listed = [...readRepository('docs/README.md').matchAll(/^\| `# needs ([^`]+)` /gm)].map((match) => match[1]);
  const used = blocks.filter(isCommands).flatMap(({ needs }) => needs ?? []);
  expect(new Set(listed)).toEqual(new Set(used));
});

it.each(blocks.filter(isShell).map(({ path, text }) => [path, text] as const))('is bash in %s: %s', (_, text) => {
  expect(spawnSync('bash', ['-n'], { input: text, encoding: 'utf8' })).toMatchObject({ status: 0, stderr: '' });
});

it('quotes addresses that a shell would take for patterns', () => {
  const bare = blocks
    .filter(isShell)
    .flatMap(({ text }) => text.match(/^[^'"#]*\shttps?:\/\/[^\s'"]*[?*&].*$/gm) ?? []);
  expect(bare).toEqual([]);
});

describe('programs that are not started here', () => {
  const SCHEMAS: Record<string, ConfigSchema> = {
    ...{ up: upSchema, gateway: gatewaySchema, runner: runnerSchema, monitor: monitorSchema, agent: agentSchema },
  };
  const lines = markedWith(/^carrierarr(-agent| (up|gateway|runner|monitor|agent)) /);

  it('are some', () => expect(lines.length).toBeGreaterThan(6));

  it.each(lines.map(({ path, command }) => [path, command] as const))(
    'would take their flags, in %s: %s',
    (_, command) => {
      const folder = mkdtempSync(join(tmpdir(), 'carrierarr-flags-'));
      try {
        const some = join(folder, 'file');
        const words = wordsOf(command);
        const [program = '', ...argv] = words[0] === 'carrierarr' ? words.slice(1) : ['agent', ...words.slice(1)];
        // An agent has one token; others are told who has which.
        const token = '0123456789abcdef0123456789abcdef';
        writeFileSync(some, program === 'agent' ? token : `alice ${token}`);
        // Files that are the reader's.
        const given = argv.map((word, index) => (/-(file|ca|cert|key)$/.test(argv[index - 1] ?? '') ? some : word));
        const loaded = loadConfig({ program, summary: '', schema: SCHEMAS[program] ?? {}, argv: given, env: {} });
        expect(loaded.kind).toBe('config');
        if (loaded.kind !== 'config') return;
        if (program === 'agent') validateAgentConfig(loaded.values as never);
        if (program === 'gateway' || program === 'up') validateGatewayConfig(loaded.values as never);
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  );
});

describe('commands for a cluster', () => {
  it('name files that are here', () => {
    const paths = marked.flatMap(
      ({ command }) => command.match(/(?<=[\s=])(?:deploy|examples|scripts|test)\/[\w-]+[./][\w./-]+/g) ?? [],
    );
    expect(paths.length).toBeGreaterThan(8);
    expect(paths.filter((path) => !existsSync(join(WORKSPACE, path)))).toEqual([]);
  });

  /** A program refuses flags that it does not know before it thinks of helping. */
  const helpOn = (commands: string[]) =>
    [...new Set(commands.map((command) => command.split(' -- ')[0] ?? ''))].map(wordsOf);

  it.skipIf(!hasKubectl)('have flags that kubectl knows', { timeout: 60_000 }, async () => {
    const calls = helpOn(markedWith(/\bkubectl /).map(({ command }) => /\bkubectl ([^|)]*)/.exec(command)?.[1] ?? ''));
    expect(calls.length).toBeGreaterThan(15);
    for (const call of calls) expect(await kubectl(...call, '--help')).toContain('Usage:');
    await expect(kubectl('get', 'pods', '--no-such-flag', '--help')).rejects.toThrow('unknown flag');
  });

  it.skipIf(helmMissing !== undefined)('have flags that helm knows', { timeout: 60_000 }, async () => {
    const calls = helpOn(markedWith(/^helm /).map(({ command }) => command.replace('helm ', '')));
    expect(calls.length).toBeGreaterThan(5);
    for (const call of calls) expect(await helm(...call, '--help')).toContain('Usage:');
    await expect(helm('upgrade', '--no-such-flag', '--help')).rejects.toThrow('unknown flag');
  });
});

describe('resources and values in the documents', () => {
  const chart = new Ajv({ strict: false, allErrors: true, validateFormats: false }).compile(
    JSON.parse(readRepository('deploy/helm/carrierarr/values.schema.json')) as object,
  );
  const all = blocks.filter(({ language }) => language === 'yaml').map(({ path, text }) => [path, text] as const);

  it('are some', () => expect(all.length).toBeGreaterThan(25));

  it.each(all)('are what programs take, in %s: %s', (_, text) => {
    for (const document of parseAllDocuments(text)) {
      expect(document.errors).toEqual([]);
      const value = document.toJS() as Record<string, unknown>;
      // `status` is what a backup has beside, and `apply` leaves aside.
      const { status: _status, ...rest } = value;
      if ('apiVersion' in value) expect(manifestSchema.safeParse(rest)).toMatchObject({ success: true });
      // What goes beside `compose.yaml`: services of that file.
      else if ('services' in value)
        for (const name of Object.keys(value['services'] as object))
          expect(readRepository('compose.yaml')).toContain(`\n  ${name}:\n`);
      // A piece of an example.
      else if ('spec' in value) expect(readRepository('examples/ec2/llm-fleet.yaml')).toContain(text);
      else {
        chart(value);
        expect(chart.errors).toBeNull();
      }
    }
  });

  it('would not be taken if they were none', () => {
    expect(chart({ gatway: {} })).toBe(false);
    expect(manifestSchema.safeParse({ apiVersion: 'carrierarr.io/v1', kind: 'Worker' }).success).toBe(false);
  });
});

/** The words that a program gets when bash is given this. */
function wordsOf(command: string): string[] {
  const { stdout, stderr, status } = spawnSync('bash', ['-c', `printf '%s\\0' ${command}`], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`Expected words for bash, got ${command}\n${stderr}`);
  return stdout.split('\0').slice(0, -1);
}
