import { executionIdOf, Keys, PARTITIONS, partitionOf, partitionOfExecution, targetSchema } from '@carrierarr/protocol';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const keys = new Keys('carrierarr');
const target = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 60 })
  .filter((name) => targetSchema.safeParse(name).success);
const ULID = /^[0-9A-HJKMNP-TV-Z]{26}$/;
const ulid = fc.stringMatching(ULID);

/** What Redis Cluster makes a slot of: what is between the first brace and the next closing one. */
function hashTag(key: string): string {
  const begin = key.indexOf('{');
  const end = key.indexOf('}', begin + 1);
  return begin >= 0 && end > begin + 1 ? key.slice(begin + 1, end) : key;
}

/** Every key and channel that a script may touch for a target. */
function namesOf(name: string, id: string): string[] {
  const p = partitionOf(name);
  return [
    ...[
      keys.log(name),
      keys.logMeta(name),
      keys.logSegments(name),
      keys.queue(name),
      keys.lease(name),
      keys.fence(name),
    ],
    ...[keys.executionsOf(name), keys.idempotency(name, 'alice', 'id-1'), keys.outputChannel(name)],
    ...[
      keys.execution(id),
      `${keys.executionPrefix(p)}${id}`,
      keys.executions(p),
      keys.partitionSequence(p),
      keys.active(p),
    ],
    ...[
      keys.pending(p),
      keys.leases(p),
      keys.targets(p),
      keys.usage(p),
      keys.partitionChannel(p),
      keys.probeChannel(p, 'gw'),
    ],
  ];
}

describe('keys', () => {
  it('of one target lie in one slot, so that one script can touch them on a Cluster', () => {
    fc.assert(
      fc.property(target, ulid, (name, id) => {
        const tags = new Set(namesOf(name, executionIdOf(id, name)).map(hashTag));
        expect([...tags]).toEqual([String(partitionOf(name))]);
      }),
    );
  });

  it('of each slot are as many as there are slots, those of every target among them', () => {
    const tags = keys.ofEachSlot().map(hashTag);
    expect(new Set(tags).size).toBe(tags.length);
    expect(tags).toEqual(expect.arrayContaining([hashTag(keys.leader()), hashTag(`${keys.bullPrefix}:drain:wait`)]));
    fc.assert(fc.property(target, (name) => tags.includes(hashTag(keys.log(name)))));
  });

  it('are different for different targets', () => {
    fc.assert(
      fc.property(fc.uniqueArray(target, { minLength: 2, maxLength: 2 }), ([a = '', b = '']) => {
        expect(keys.log(a)).not.toBe(keys.log(b));
        expect(keys.outputChannel(a)).not.toBe(keys.outputChannel(b));
      }),
    );
  });

  it('of idempotency ids are different for different targets, subjects and ids, however these are chosen', () => {
    const word = fc.string({ unit: fc.constantFrom('a', ':', '%'), minLength: 1, maxLength: 4 });
    const triple = fc.tuple(word, word, word);
    fc.assert(
      fc.property(triple, triple, (a, b) => {
        fc.pre(a.join(' ') !== b.join(' '));
        expect(keys.idempotency(...a)).not.toBe(keys.idempotency(...b));
      }),
      {
        numRuns: 2_000,
        examples: [
          [
            ['c:t', 'a', 'b'],
            ['t', 'a:b', 'c'],
          ],
          [
            ['t', 'a', 'b:c'],
            ['t', 'a:b', 'c'],
          ],
        ],
      },
    );
  });

  it('of the runners, and of BullMQ, each lie in one slot', () => {
    const runners = [keys.runners(), keys.runner('r-1'), keys.killChannel(), keys.retentionLock()];
    expect([...new Set(runners.map(hashTag))]).toEqual(['runners']);
    expect(hashTag(`${keys.bullPrefix}:commands:wait`)).toBe('carrierarr:bull');
  });

  it('begin with the prefix, which separates installations', () => {
    const other = new Keys('other');
    expect(other.log('t')).toBe(keys.log('t').replace('carrierarr', 'other'));
    expect(other.bullPrefix).not.toBe(keys.bullPrefix);
  });
});

describe('partitions', () => {
  it('are stable: stored data depend on them', () => {
    // FNV-1a of their UTF-8 bytes, modulo 64, computed by another program.
    expect(['default', 'worker-1', 'gpu 7 (Zürich)', '工作机'].map(partitionOf)).toEqual([30, 45, 30, 7]);
  });

  it('share targets evenly', () => {
    const counts = Array<number>(PARTITIONS).fill(0);
    for (let i = 0; i < PARTITIONS * 200; i++)
      counts[partitionOf(`worker-${i}`)] = (counts[partitionOf(`worker-${i}`)] ?? 0) + 1;
    expect(Math.min(...counts)).toBeGreaterThan(100);
    expect(Math.max(...counts)).toBeLessThan(300);
  });
});

describe('an execution id', () => {
  it('names the partition of its target', () => {
    fc.assert(
      fc.property(target, ulid, (name, id) => {
        const execution = executionIdOf(id, name);
        expect(partitionOfExecution(execution)).toBe(partitionOf(name));
        expect(keys.execution(execution)).toBe(`${keys.executionPrefix(partitionOf(name))}${execution}`);
      }),
    );
  });

  it('sorts by the time in its ULID', () => {
    expect(executionIdOf('01J00000000000000000000000', 'z') < executionIdOf('01J00000000000000000000001', 'a')).toBe(
      true,
    );
  });

  it('is nothing else', () => {
    const id = executionIdOf('01J00000000000000000000000', 'a');
    for (const text of [
      '',
      'x',
      id.toUpperCase(),
      `${id} `,
      `${id}0`,
      `${id.slice(0, 26)}-40`,
      `${id.slice(0, 26)}-ff`,
      '{7}',
    ]) {
      expect(partitionOfExecution(text)).toBeUndefined();
    }
    expect(() => keys.execution('../../x')).toThrow('not an execution id: "../../x"');
  });
});
