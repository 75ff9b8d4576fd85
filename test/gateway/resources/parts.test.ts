/** The pure parts: bodies, merge patches, selectors, versions, manifests. */
import { ClientError, type ErrorCode } from '@carrierarr/protocol';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseJson, parseYaml } from '../../../apps/gateway/src/resources/body.js';
import { changedPaths } from '../../../apps/gateway/src/resources/changed-paths.js';
import { labelSelector } from '../../../apps/gateway/src/resources/label-selector.js';
import { manifestOf } from '../../../apps/gateway/src/resources/manifest.js';
import { type Json, mergePatch } from '../../../apps/gateway/src/resources/merge-patch.js';
import { expectationOf, meets } from '../../../apps/gateway/src/resources/version.js';

function refused(work: () => unknown): ClientError {
  try {
    work();
  } catch (error) {
    if (error instanceof ClientError) return error;
    throw error;
  }
  throw new Error('it was not refused');
}
const codeOf = (work: () => unknown): ErrorCode => refused(work).code;

describe('YAML', () => {
  it('is read with the core schema: no surprise in what is text and what is not', () => {
    expect(parseYaml('a: yes\nb: 0o17\nc: 1e3\nd: ~\ne: 2026-11-22\nf: [1, "2"]\n__proto__: 7\n')).toEqual(
      JSON.parse('{"a":"yes","b":15,"c":1000,"d":null,"e":"2026-11-22","f":[1,"2"],"__proto__":7}'),
    );
  });

  it('with few aliases is read, with bombs of them is refused fast', () => {
    expect(parseYaml('a: &x [1, 2]\nb: *x\n')).toEqual({ a: [1, 2], b: [1, 2] });
    let bomb = 'a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n';
    for (let i = 1; i <= 12; i += 1)
      bomb += `a${i}: &a${i} [${Array.from({ length: 9 }, () => `*a${i - 1}`).join(', ')}]\n`;
    const begun = performance.now();
    expect(refused(() => parseYaml(bomb)).message).toMatch(/alias/i);
    expect(performance.now() - begun).toBeLessThan(2_000);
    expect(codeOf(() => parseYaml('a: &a [*a]'))).toBe('bad_message');
  });

  it.each([
    ['of several documents', 'a: 1\n---\nb: 2\n'],
    ['with a tag of its own', 'a: !!js/function "() => 1"\n'],
    ['with an unknown tag', 'a: !secret x\n'],
    ['with the same key twice', 'a: 1\na: 2\n'],
    ['that is none', 'a: [1\n'],
    ['nested too deeply', `${'['.repeat(60)}1${']'.repeat(60)}`],
    ['nested so deeply that a parser gives up', '['.repeat(30_000)],
    ['nested deeply by indentation', Array.from({ length: 60 }, (_, i) => `${' '.repeat(i)}a:`).join('\n')],
  ])('%s is refused', (_, text) => {
    const { code, message } = refused(() => parseYaml(text));
    expect([code, message]).toEqual([
      'bad_message',
      expect.stringMatching(/^(Cannot use the YAML|The body is nested)/),
    ]);
    expect(message.length).toBeLessThan(400);
  });
});

describe('JSON', () => {
  it('that is nested deeply, or is none, is refused', () => {
    expect(refused(() => parseJson(`${'['.repeat(30_000)}${']'.repeat(30_000)}`)).message).toContain('32 levels');
    expect(refused(() => parseJson('{"a"')).message).toContain('got "{\\"a\\""');
    expect(codeOf(() => parseJson(`[${'0,'.repeat(200_001)}0]`))).toBe('bad_message');
  });
});

describe('a merge patch', () => {
  // The examples of RFC 7396, appendix A.
  it.each<[Json, Json, Json]>([
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [
      ['a', 'b'],
      ['c', 'd'],
      ['c', 'd'],
    ],
    [{ a: 'b' }, ['c'], ['c']],
    [{ a: 'foo' }, null, null],
    [{ a: 'foo' }, 'bar', 'bar'],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ])('makes of %j by %j: %j', (value, patch, result) => {
    expect(mergePatch(value, patch)).toEqual(result);
  });

  it('changes neither of the two, nor anybody else by `__proto__`', () => {
    const value = Object.freeze({ a: Object.freeze({ b: 1 }) });
    const merged = mergePatch(value, JSON.parse('{"__proto__":{"polluted":1},"a":{"c":2}}') as Json);
    expect(value).toEqual({ a: { b: 1 } });
    expect(({} as { polluted?: number }).polluted).toBeUndefined();
    expect(Object.getPrototypeOf(merged)).toBe(Object.prototype);
    expect(JSON.stringify(merged)).toBe('{"a":{"b":1,"c":2},"__proto__":{"polluted":1}}');
  });
});

describe('a label selector', () => {
  const labels = { env: 'prod', tier: 'gpu', 'carrierarr.io/pool': 'p', empty: '' };
  it.each([
    ['', true],
    ['env=prod', true],
    ['env==prod', true],
    [' env = prod , tier != cpu ', true],
    ['env=test', false],
    ['env!=prod', false],
    ['zone!=a', true],
    ['env=prod,tier=cpu', false],
    ['tier', true],
    ['zone', false],
    ['!zone', true],
    ['!tier', false],
    ['carrierarr.io/pool=p', true],
    ['empty=', true],
    ['env=', false],
    ['constructor', false],
    ['__proto__!=x', true],
  ])('%j: %s', (text, matches) => {
    expect(labelSelector(text)(labels)).toBe(matches);
  });

  it.each(['=', 'a b', 'a=b=c', 'a,,b', '!a=b', '!', ','])('%j is refused', (text) => {
    expect(codeOf(() => labelSelector(text))).toBe('bad_message');
  });

  it('is never slow, and never an exception of another kind', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 2_000 }), (text) => {
        try {
          labelSelector(text)(labels);
        } catch (error) {
          expect(error).toBeInstanceOf(ClientError);
        }
      }),
    );
    const begun = performance.now();
    expect(codeOf(() => labelSelector(`a${' '.repeat(4_000)}b`))).toBe('bad_message');
    expect(performance.now() - begun).toBeLessThan(200);
  });
});

describe('the version a client has seen', () => {
  const headers = (ifMatch = '', ifNoneMatch = '') => ({ ifMatch, ifNoneMatch });
  it('comes by header or in the body', () => {
    expect(expectationOf(headers(), undefined)).toEqual({ kind: 'any' });
    expect(expectationOf(headers('"7"'), undefined)).toEqual({ kind: 'version', resourceVersion: '7' });
    expect(expectationOf(headers('W/"7"'), '7')).toEqual({ kind: 'version', resourceVersion: '7' });
    expect(expectationOf(headers(), '7')).toEqual({ kind: 'version', resourceVersion: '7' });
    expect(expectationOf(headers('*'), undefined)).toEqual({ kind: 'exists' });
    expect(expectationOf(headers('', '*'), undefined)).toEqual({ kind: 'nothing' });
  });
  it('must be one, and only one', () => {
    expect(codeOf(() => expectationOf(headers('7'), undefined))).toBe('bad_message');
    expect(codeOf(() => expectationOf(headers('"7"'), '8'))).toBe('bad_message');
    expect(codeOf(() => expectationOf(headers(), 'x'))).toBe('bad_message');
    expect(codeOf(() => expectationOf(headers('"7"', '*'), undefined))).toBe('bad_message');
    expect(codeOf(() => expectationOf(headers('', '"7"'), undefined))).toBe('bad_message');
  });
  it('decides', () => {
    const [nothing, seven] = [undefined, '7'];
    expect([meets({ kind: 'any' }, nothing), meets({ kind: 'exists' }, nothing)]).toEqual([true, false]);
    expect([meets({ kind: 'nothing' }, nothing), meets({ kind: 'nothing' }, seven)]).toEqual([true, false]);
    const version = { kind: 'version', resourceVersion: '7' } as const;
    expect([meets(version, seven), meets(version, '8'), meets(version, nothing)]).toEqual([true, false, false]);
  });
});

describe('a manifest', () => {
  const manifest = {
    ...{ apiVersion: 'carrierarr.io/v1', kind: 'Worker' },
    metadata: { name: 'w1', labels: { env: 'prod' } },
    spec: { desired: 'stopped', args: { start: ['--fast'] } },
  };

  it('that a gateway printed is accepted back', () => {
    const printed = {
      ...manifest,
      metadata: {
        ...manifest.metadata,
        ...{ uid: 'u', generation: 3, resourceVersion: '12', creationTimestamp: '2026-11-22T10:00:00Z' },
        ...{ deletionTimestamp: '2026-11-22T10:00:00Z', finalizers: ['x'], templateHash: 'h' },
        owner: { kind: 'WorkerPool', name: 'p', uid: 'v' },
      },
      status: { phase: 'Running' },
    };
    const { metadata, spec } = manifestOf(printed);
    expect(metadata).toEqual({ name: 'w1', labels: { env: 'prod' }, resourceVersion: '12' });
    expect(spec).toMatchObject({ desired: 'stopped', args: { start: ['--fast'] }, source: 'auto' });
  });

  it('whose selector names no tag is refused: it would fit every machine', () => {
    const { issues } = refused(() =>
      manifestOf({ ...manifest, spec: { selector: { tags: {} } } }, { kind: 'Worker', name: 'w1' }),
    );
    expect(issues).toMatchObject([
      { path: 'spec.selector.tags', message: expect.stringContaining('at least one tag') },
    ]);
  });

  it('with problems is refused with all of them: where, what, and what is allowed', () => {
    const { code, issues, message } = refused(() =>
      manifestOf(
        {
          ...manifest,
          metadata: { name: 'other', label: { a: 'b' } },
          spec: {
            desired: 'up',
            maxRetries: 'three',
            replica: 3,
            schedule: { windows: [{ start: '0 8 * * *', duration: '1d' }] },
          },
        },
        { kind: 'Worker', name: 'w1' },
      ),
    );
    expect(code).toBe('bad_resource');
    expect(issues).toEqual(
      expect.arrayContaining([
        { path: 'metadata.label', value: '{"a":"b"}', message: expect.stringContaining('there are name, labels, uid') },
        { path: 'spec.desired', value: '"up"', message: expect.stringContaining('"running"|"stopped"|"absent"') },
        { path: 'spec.maxRetries', value: '"three"', message: expect.stringMatching(/expected .*, received string/) },
        { path: 'spec.replica', value: '3', message: expect.stringContaining('there are desired, target, source') },
        { path: 'spec.schedule.windows.0.duration', value: '"1d"', message: 'a duration is written 90s, 15m or 1h30m' },
        { path: 'metadata.name', value: '"other"', message: expect.stringContaining('must be "w1"') },
      ]),
    );
    expect(issues).toHaveLength(6);
    expect(message).toMatch(/^Cannot use the resource\. `metadata\.label`: .*; and 1 more\.$/);
  });

  it.each([
    null,
    7,
    'x',
    [],
    {},
    { kind: 'Pod' },
    { ...manifest, kind: 'WorkerPool' },
    { ...manifest, metadata: null },
  ])('that is none is refused: %j', (value) => {
    const { code, issues } = refused(() => manifestOf(value, { kind: 'Worker', name: 'w1' }));
    expect([code, issues?.length]).toEqual(['bad_resource', expect.any(Number)]);
    expect(issues?.length).toBeGreaterThan(0);
  });

  it('of any shape is accepted or refused, never an exception', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), fc.jsonValue({ maxDepth: 3 }), (spec, metadata) => {
        for (const value of [
          spec,
          { ...manifest, spec },
          { ...manifest, metadata },
          { ...manifest, ...(spec as object) },
        ]) {
          try {
            manifestOf(value);
          } catch (error) {
            expect(error).toBeInstanceOf(ClientError);
          }
        }
      }),
    );
  });

  it('differs from another in paths that people understand', () => {
    const before = manifestOf(manifest);
    const after = manifestOf({
      ...manifest,
      metadata: { name: 'w1', labels: { tier: 'gpu' } },
      spec: { desired: 'running', args: { start: ['--slow'], stop: ['-f'] }, paused: true },
    });
    expect(changedPaths(before, before)).toEqual([]);
    expect(changedPaths(before, after)).toEqual([
      { path: 'metadata.labels.env', from: 'prod' },
      { path: 'metadata.labels.tier', to: 'gpu' },
      { path: 'spec.desired', from: 'stopped', to: 'running' },
      { path: 'spec.args.start', from: ['--fast'], to: ['--slow'] },
      { path: 'spec.args.stop', to: ['-f'] },
      { path: 'spec.paused', from: false, to: true },
    ]);
    expect(changedPaths(undefined, before).map(({ path }) => path)).toContain('spec.desired');
  });
});
