import { createHash } from 'node:crypto';
import { chmod, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeClock, parseTokens, Tokens } from '@carrierarr/platform';
import { TOKEN_SUBPROTOCOL_PREFIX } from '@carrierarr/protocol';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Authenticator, tokenOfSubprotocols } from '../../apps/gateway/src/access/authenticate.js';

type Log = (...args: unknown[]) => void;
const ALICE = 'alice-token-0123456789';
const BOB = 'bob-token-0123456789ab';
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

describe('a tokens file', () => {
  it('has a subject and a token per line, comments, and hashes in place of tokens', () => {
    const entries = parseTokens(
      `# people\n\nalice ${ALICE}\r\n  bob\tsha256:${sha256(BOB)}  \nalice another-token-of-alice\n`,
    );
    expect(entries.map(({ subject, hash }) => [subject, hash.toString('hex')])).toEqual([
      ['alice', sha256(ALICE)],
      ['bob', sha256(BOB)],
      ['alice', sha256('another-token-of-alice')],
    ]);
  });

  it.each([
    ['one word', 'secret-alone-1234567890', /line 1: expected a subject and a token/],
    ['three words', 'alice secret-token-12345 more', /line 1: .* got 3 words/],
    ['a short token', '# x\nalice short-secret', /line 2: expected a token of 16 to 4096 .* got 12/],
    ['a token with other letters', 'alice sécret-token-1234567', /some of them others/],
    ['a broken hash', 'alice sha256:abcdef', /64 hex digits/],
    ['a reserved subject', `anonymous ${ALICE}`, /stands for clients without a token/],
    ['the subject of a monitor', `system:reconciler ${ALICE}`, /begins with system:, which is for monitors/],
    ['a token of two subjects', `alice ${ALICE}\nbob sha256:${sha256(ALICE)}`, /line 2: the token is that of line 1/],
  ])('is refused with %s, without showing the token', (_, text, message) => {
    expect(() => parseTokens(text)).toThrow(message);
    // It throws for sure, so this looks at the error's text alone.
    expect(() => parseTokens(text)).toThrow(
      expect.objectContaining({ message: expect.not.stringMatching(/secret|alice-token/) }),
    );
  });
});

describe('tokens', () => {
  let folder: string;
  let path: string;
  const clock = new FakeClock();
  const logger = { info: vi.fn<Log>(), warn: vi.fn<Log>(), error: vi.fn<Log>() };
  let tokens: Tokens;

  beforeEach(async () => {
    vi.resetAllMocks();
    folder = await mkdtemp(join(tmpdir(), 'carrierarr-tokens-'));
    path = join(folder, 'tokens');
    await writeFile(path, `alice ${ALICE}\nbob sha256:${sha256(BOB)}\n`, { mode: 0o600 });
    tokens = new Tokens({ path, clock, logger });
  });
  afterEach(async () => {
    tokens.stop();
    await rm(folder, { recursive: true });
  });

  it('let their subjects in and nobody else', async () => {
    await tokens.start();
    expect(tokens.find(ALICE)?.subject).toBe('alice');
    expect(tokens.find(BOB)?.subject).toBe('bob');
    for (const wrong of ['', 'alice', `${ALICE} `, ALICE.slice(0, -1), sha256(BOB), `sha256:${sha256(BOB)}`]) {
      expect([wrong, tokens.find(wrong)]).toEqual([wrong, undefined]);
    }
  });

  it('are read again when the file changes, and a token that was taken out stops to hold', async () => {
    await tokens.start();
    const alice = tokens.find(ALICE);
    const bob = tokens.find(BOB);
    await writeFile(`${path}.new`, `bob ${BOB}\ncarol carol-token-0123456789\n`);
    await rename(`${path}.new`, path);
    clock.advance(5_000);
    await vi.waitFor(() => expect(tokens.find('carol-token-0123456789')?.subject).toBe('carol'));
    expect(tokens.find(ALICE)).toBeUndefined();
    expect(tokens.holds(alice!.proof, 'alice')).toBe(false);
    expect(tokens.holds(bob!.proof, 'bob')).toBe(true);
    expect(tokens.holds(bob!.proof, 'carol')).toBe(false);
  });

  it('stay as they were, with one line in the log, while the new file is broken or gone', async () => {
    await tokens.start();
    await writeFile(path, 'alice short');
    await tokens.refresh();
    await tokens.refresh();
    expect(tokens.find(ALICE)?.subject).toBe('alice');
    expect(logger.error).toHaveBeenCalledTimes(1);
    expect(JSON.stringify(logger.error.mock.calls)).toMatch(/line 1.*still holds/);
    await rm(path);
    await tokens.refresh();
    expect(tokens.find(BOB)?.subject).toBe('bob');
    expect(logger.error).toHaveBeenCalledTimes(2);
  });

  it('are all taken back by an emptied file, but a gateway does not start with one', async () => {
    await tokens.start();
    await writeFile(path, '# nobody\n');
    await tokens.refresh();
    expect(tokens.find(ALICE)).toBeUndefined();
    expect(logger.warn).toHaveBeenCalledTimes(1);
    await expect(new Tokens({ path, clock, logger }).start()).rejects.toThrow(/tokens file .* has no tokens/);
    await expect(new Tokens({ path: `${path}.none`, clock, logger }).start()).rejects.toThrow(/cannot be used: ENOENT/);
  });

  it('in a file that others may read are warned of', async () => {
    await tokens.start();
    expect(logger.warn).not.toHaveBeenCalled();
    await chmod(path, 0o644);
    await new Tokens({ path, clock, logger }).start();
    expect(logger.warn).toHaveBeenCalledWith(
      expect.objectContaining({ mode: '644' }),
      expect.stringContaining('chmod 600'),
    );
  });

  it('are looked for in the header, then the subprotocol, then the query', async () => {
    await tokens.start();
    const authenticator = new Authenticator({ tokens, now: () => clock.now() });
    const who = async (presented: Parameters<Authenticator['authenticate']>[0]) => {
      const answer = await authenticator.authenticate(presented);
      return answer.kind === 'subject' ? answer.subject : answer.kind;
    };
    expect(await who({ authorization: `Bearer ${ALICE}`, accessToken: BOB })).toBe('alice');
    expect(await who({ authorization: `bearer  ${ALICE} ` })).toBe('alice');
    expect(await who({ subprotocolToken: BOB, accessToken: ALICE })).toBe('bob');
    expect(await who({ accessToken: ALICE })).toBe('alice');
    expect(await who({})).toBe('none');
    expect(await who({ accessToken: '' })).toBe('none');
    // A wrong one is not made good by a right one elsewhere.
    expect(await who({ authorization: 'Bearer wrong', accessToken: ALICE })).toBe('invalid');
    expect(await who({ authorization: `Basic ${ALICE}`, accessToken: ALICE })).toBe('invalid');
    expect(await who({ authorization: `Bearer ${'x'.repeat(20_000)}` })).toBe('invalid');
  });

  it('hold for a live connection until they are taken out', async () => {
    await tokens.start();
    const authenticator = new Authenticator({ tokens, now: () => clock.now() });
    const alice = await authenticator.authenticate({ accessToken: ALICE });
    if (alice.kind !== 'subject') throw new Error(alice.kind);
    expect(authenticator.stillValid(alice)).toBe(true);
    await writeFile(path, `bob ${BOB}`);
    await tokens.refresh();
    expect(authenticator.stillValid(alice)).toBe(false);
  });

  it('are not asked for where none are configured', async () => {
    const authenticator = new Authenticator({ now: () => 0 });
    expect(authenticator.isRequired).toBe(false);
    const anybody = await authenticator.authenticate({ authorization: 'Bearer nonsense' });
    expect(anybody).toEqual({ kind: 'subject', subject: 'anonymous' });
    expect(authenticator.stillValid({ kind: 'subject', subject: 'anonymous' })).toBe(true);
  });
});

it('a browser offers its token among the subprotocols', () => {
  const offer = `${TOKEN_SUBPROTOCOL_PREFIX}${Buffer.from(ALICE).toString('base64url')}`;
  expect(tokenOfSubprotocols(`carrierarr.v1, ${offer}`)).toBe(ALICE);
  expect(tokenOfSubprotocols('carrierarr.v1')).toBeUndefined();
  expect(tokenOfSubprotocols('')).toBeUndefined();
});
