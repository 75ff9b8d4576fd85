/** The token by which a script makes a provider do a thing once, however often the script runs. */
import { describe, expect, it } from 'vitest';
import type { Execution } from '@carrierarr/protocol';
import { commandToken } from '../../../libs/execution/src/process/environment.js';

const EXECUTION: Execution = {
  ...{ id: '01jd0000000000000000000000-0a', target: 'gpu-1', command: 'provision', args: [], state: 'running' },
  ...{ subject: 'system:reconciler', address: '', gateway: 'monitor', client_id: 'cr:u1:1:1:provision' },
  ...{ idempotent: false, accepted_at: '2025-01-01T00:00:00.000Z', attempt: 1 },
};

const tokenOf = (changes: Partial<Execution> = {}) => commandToken({ ...EXECUTION, ...changes });

describe('the token of a command', () => {
  it('is the digest of subject, target and the id the client chose', () => {
    // printf 'system:reconciler\ngpu-1\ncr:u1:1:1:provision' | sha256sum
    expect(tokenOf()).toBe('0dfcb47ad959aeab76d2f52fd1e7ff707cfd5d7c08014bfb55d9c488f3df3a2d');
  });

  it('is as long as EC2 allows, and the same for another execution of the same command', () => {
    expect(tokenOf()).toHaveLength(64);
    expect(tokenOf({ id: '01jd0000000000000000000009-0a', attempt: 2 })).toBe(tokenOf());
  });

  it('differs by subject, by target and by the id', () => {
    const tokens = [
      ...[tokenOf(), tokenOf({ subject: 'alice' }), tokenOf({ target: 'gpu-2' })],
      tokenOf({ client_id: 'cr:u1:1:2:provision' }),
    ];
    expect(new Set(tokens).size).toBe(4);
  });

  it('is of the execution alone when the client chose no id', () => {
    const { client_id: _, ...without } = EXECUTION;
    const token = (id: string) => commandToken({ ...without, id });
    expect(token('a')).toMatch(/^[0-9a-f]{64}$/);
    expect(token('a')).not.toBe(token('b'));
  });
});
