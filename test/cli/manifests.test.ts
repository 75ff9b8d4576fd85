import { parseManifests } from '@carrierarr/cli';
import { describe, expect, it } from 'vitest';

const WORKER = 'apiVersion: carrierarr.io/v1\nkind: Worker\nmetadata:\n  name: a\nspec: {}\n';

/** `line: text` of every problem. */
function problems(text: string): string[] {
  return parseManifests('f.yaml', text).flatMap((parsed) =>
    'problems' in parsed ? parsed.problems.map(({ place, text: told }) => `${place.line}: ${told}`) : [],
  );
}

function names(text: string): string[] {
  return parseManifests('f.yaml', text).flatMap((parsed) =>
    'manifest' in parsed ? [`${parsed.place.document}:${parsed.place.line} ${parsed.manifest.metadata.name}`] : [],
  );
}

describe('manifests', () => {
  it('are read from several documents, with defaults, and know their places; comments alone are none', () => {
    const text = `# a fleet\n---\n${WORKER}---\n# nothing\n---\n${WORKER.replace('name: a', 'name: b')}`;
    expect(names(text)).toEqual(['1:3 a', '3:11 b']);
    expect(names('')).toEqual([]);
    expect(names('# only a comment\n')).toEqual([]);
    const [first] = parseManifests('f', WORKER);
    expect(first).toMatchObject({
      manifest: { metadata: { labels: {} }, spec: { desired: 'running', maxRetries: 10 } },
    });
  });

  it('may be JSON, over lines or one document a line', () => {
    const value = { apiVersion: 'carrierarr.io/v1', kind: 'Worker', metadata: { name: 'a' }, spec: {} };
    expect(names(JSON.stringify(value, null, 2))).toEqual(['1:1 a']);
    const second = { ...value, metadata: { name: 'b' } };
    expect(names(`${JSON.stringify(value)}\n\n${JSON.stringify(second)}\n`)).toEqual(['1:1 a', '2:3 b']);
    expect(problems(`${JSON.stringify(value)}\n${JSON.stringify({ ...value, kind: 'Pod' })}\n`)).toEqual([
      '2: kind: Expected Worker or WorkerPool, got "Pod".',
    ]);
  });

  it('may be what `get -o yaml` prints: the server’s part is dropped', () => {
    const text = `${WORKER.replace('  name: a', '  name: a\n  uid: u\n  resourceVersion: "7"\n  owner: {kind: WorkerPool}')}status:\n  phase: Running\n`;
    const [parsed] = parseManifests('f', text);
    if (parsed === undefined || !('manifest' in parsed)) throw new Error('not usable');
    expect(parsed.manifest.metadata).toEqual({ name: 'a', labels: {} });
    expect(parsed.manifest).not.toHaveProperty('status');
  });

  it('that do not fit say where, what was received and what is allowed', () => {
    const text = WORKER.replace(
      'spec: {}',
      'spec:\n  desired: runing\n  maxRetries: -1\n  idleStopAfter: 5\n  args:\n    start: [1]\n  replica: 3',
    );
    expect(problems(text)).toEqual([
      '6: spec.desired: Expected running, stopped, absent; got "runing".',
      expect.stringMatching(/^10: spec\.args\.start\.0: .*; got 1\.$/),
      expect.stringMatching(/^8: spec\.idleStopAfter: .*; got 5\.$/),
      expect.stringMatching(/^7: spec\.maxRetries: .*; got -1\.$/),
      '11: spec: There is no field "replica" here.',
    ]);
    expect(problems(WORKER.replace('name: a', 'name: a\n  label: {x: y}'))).toEqual([
      '5: metadata: There is no field "label"; allowed are name and labels.',
    ]);
    expect(problems(WORKER.replace('name: a', 'name: ..'))[0]).toContain('metadata.name');
    expect(problems(WORKER.replace('metadata:\n  name: a\n', ''))[0]).toMatch(/^1: metadata: /);
    expect(problems('- 1\n- 2\n')).toEqual(['1: Expected a resource (apiVersion, kind, metadata, spec), got [1,2].']);
  });

  it('that are broken do not hide the next document', () => {
    const text = `a: 1\n b: 2\n---\n${WORKER}---\nkind: Worker\nkind: Worker\n`;
    expect(names(text)).toEqual(['2:4 a']);
    expect(problems(text)).toEqual([
      expect.stringMatching(/^1: It is no valid YAML: /),
      expect.stringMatching(/^11: It is no valid YAML: Map keys must be unique/),
    ]);
  });

  it('with a tag that means nothing here, or nested without end, are refused', () => {
    expect(problems(WORKER.replace('name: a', 'name: !Ref a'))).toEqual([
      expect.stringMatching(/^4: It is no valid YAML: Unresolved tag: !Ref/),
    ]);
    expect(problems('['.repeat(100_000))).toHaveLength(1);
    expect(problems(`a: ${'['.repeat(20_000)}${']'.repeat(20_000)}`)).toHaveLength(1);
  });

  it('cannot fill the memory with aliases of aliases', () => {
    const layers = Array.from({ length: 12 }, (_, at) => `l${at + 1}: &l${at + 1} [${`*l${at},`.repeat(10)}]`);
    expect(problems(`l0: &l0 x\n${layers.join('\n')}\n`)).toEqual([
      expect.stringMatching(/^1: It is no usable YAML: .*alias/i),
    ]);
  });
});
