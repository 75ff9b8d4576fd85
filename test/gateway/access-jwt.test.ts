import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeClock } from '@carrierarr/platform';
import { exportJWK, generateKeyPair, type GenerateKeyPairResult, type JWTPayload, SignJWT, UnsecuredJWT } from 'jose';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { Authenticator } from '../../apps/gateway/src/access/authenticate.js';
import { Jwt } from '../../apps/gateway/src/access/jwt.js';

const clock = new FakeClock();
const nowS = clock.now() / 1000;
type Log = (...args: unknown[]) => void;
const logger = { info: vi.fn<Log>(), warn: vi.fn<Log>(), error: vi.fn<Log>() };
const ours = { issuer: 'https://id.example', audience: 'carrierarr', subjectClaim: 'sub', clock, logger };
const good = { iss: ours.issuer, aud: ours.audience, sub: 'alice', exp: nowS + 60 };

let folder: string;
let file: string;
let keys: GenerateKeyPairResult;
let otherKeys: GenerateKeyPairResult;
let jwks: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'carrierarr-jwt-'));
  file = join(folder, 'jwks.json');
  keys = await generateKeyPair('ES256', { extractable: true });
  otherKeys = await generateKeyPair('ES256', { extractable: true });
  jwks = JSON.stringify({ keys: [{ ...(await exportJWK(keys.publicKey)), kid: 'k1', alg: 'ES256' }] });
});
beforeEach(() => {
  vi.resetAllMocks();
  return writeFile(file, jwks);
});
afterAll(() => rm(folder, { recursive: true }));

function sign(payload: JWTPayload, key = keys.privateKey, header: Record<string, string> = {}): Promise<string> {
  return new SignJWT(payload).setProtectedHeader({ alg: 'ES256', kid: 'k1', ...header }).sign(key);
}

async function started(overrides: Partial<ConstructorParameters<typeof Jwt>[0]> = {}): Promise<Jwt> {
  const jwt = new Jwt({ keys: { file }, ...ours, ...overrides });
  await jwt.start();
  return jwt;
}

describe('a JSON Web Token', () => {
  it('of our issuer for us lets its subject in until it expires', async () => {
    const jwt = await started();
    const answer = await jwt.verify(await sign(good));
    expect(answer).toEqual({ kind: 'valid', subject: 'alice', expiresAtMs: (good.exp + 5) * 1000 });
    const authenticator = new Authenticator({ jwt, now: () => clock.now() });
    const alice = await authenticator.authenticate({ accessToken: await sign(good) });
    if (alice.kind !== 'subject') throw new Error(alice.kind);
    expect(authenticator.stillValid(alice)).toBe(true);
    expect(new Authenticator({ jwt, now: () => clock.now() + 66_000 }).stillValid(alice)).toBe(false);
    jwt.stop();
  });

  it.each<[string, JWTPayload, RegExp]>([
    ['for another program', { ...good, aud: 'argo' }, /audience \(aud\) should be "carrierarr", and is "argo"/],
    ['for nobody', { ...good, aud: [] }, /audience/],
    ['without an audience', { iss: good.iss, sub: 'alice', exp: good.exp }, /aud/],
    ['of another issuer', { ...good, iss: 'https://evil.example' }, /issuer \(iss\) .* is "https:\/\/evil\.example"/],
    ['that expired', { ...good, exp: nowS - 60 }, /expired at 2024-12-31T23:59:00/],
    ['that never expires', { iss: good.iss, aud: good.aud, sub: 'alice' }, /claim exp is missing/],
    ['that is not valid yet', { ...good, nbf: nowS + 60 }, /not valid before 2025-01-01T00:01:00/],
    ['without a subject', { iss: good.iss, aud: good.aud, exp: good.exp }, /"sub"/],
    ['of a monitor', { ...good, sub: 'system:reconciler' }, /begins with system:, which is for monitors/],
    ['with control characters as subject', { ...good, sub: 'a\u001b[31m' }, /"sub"/],
  ])('%s is refused', async (_, payload, message) => {
    const jwt = await started();
    const answer = await jwt.verify(await sign(payload));
    expect(answer).toMatchObject({ kind: 'invalid', retryable: false, message: expect.stringMatching(message) });
    jwt.stop();
  });

  it('without a good signature is refused', async () => {
    const jwt = await started();
    const hmac = await new SignJWT(good).setProtectedHeader({ alg: 'HS256', kid: 'k1' }).sign(Buffer.from(jwks));
    const [head, , signature] = (await sign(good)).split('.');
    const changed = Buffer.from(JSON.stringify({ ...good, sub: 'root' })).toString('base64url');
    const tokens: [string, string, RegExp][] = [
      ['alg none', new UnsecuredJWT(good).encode(), /algorithm|damaged/],
      ['the public key as HMAC secret', hmac, /algorithm is not allowed/],
      ['the key of somebody else', await sign(good, otherKeys.privateKey), /signature does not fit/],
      ['an unknown key id', await sign(good, keys.privateKey, { kid: 'k2' }), /does not publish/],
      ['changed claims', `${head}.${changed}.${signature}`, /signature does not fit/],
      ['garbage', 'a.b.c', /damaged/],
      ['nothing', '..', /damaged/],
    ];
    for (const [what, token, message] of tokens) {
      const answer = await jwt.verify(token);
      expect({ what, ...answer }).toMatchObject({
        what,
        kind: 'invalid',
        retryable: false,
        message: expect.stringMatching(message),
      });
    }
    expect(logger.error).not.toHaveBeenCalled();
    jwt.stop();
  });

  it('names its subject by the claim that is configured, and no inherited property is one', async () => {
    const jwt = await started({ subjectClaim: 'email' });
    expect(await jwt.verify(await sign({ ...good, email: 'a@example' }))).toMatchObject({ subject: 'a@example' });
    expect(await jwt.verify(await sign(good))).toMatchObject({ kind: 'invalid' });
    jwt.stop();
    const odd = await started({ subjectClaim: 'constructor' });
    expect(await odd.verify(await sign(good))).toMatchObject({ kind: 'invalid' });
    odd.stop();
  });

  it('of a key that was taken out of the file is refused after that', async () => {
    const jwt = await started();
    const replaced = { keys: [{ ...(await exportJWK(otherKeys.publicKey)), kid: 'k3', alg: 'ES256' }] };
    await writeFile(file, JSON.stringify(replaced));
    await jwt.refresh();
    expect(await jwt.verify(await sign(good))).toMatchObject({ kind: 'invalid' });
    await writeFile(file, '{"keys":[]}');
    await jwt.refresh();
    expect(logger.error).toHaveBeenCalledTimes(1);
    expect(await jwt.verify(await sign(good, otherKeys.privateKey, { kid: 'k3' }))).toMatchObject({ kind: 'valid' });
    jwt.stop();
  });

  it('does not let a gateway start without keys', async () => {
    await expect(started({ keys: { file: `${file}.none` } })).rejects.toThrow(/JWKS file .*ENOENT/);
    await writeFile(file, '[]');
    await expect(started()).rejects.toThrow(/expected {"keys"/);
  });
});

describe('keys behind a URL', () => {
  let server: Server;
  let url: string;
  let answer: { status: number; body: string };
  let requests = 0;
  beforeAll(async () => {
    server = createServer((_, response) => {
      requests += 1;
      response.writeHead(answer.status).end(answer.body);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`;
  });
  afterAll(() => void server.close());

  it('are fetched once for many tokens', async () => {
    answer = { status: 200, body: jwks };
    requests = 0;
    const jwt = await started({ keys: { url } });
    const token = await sign(good);
    for (const result of await Promise.all([jwt.verify(token), jwt.verify(token), jwt.verify(token)])) {
      expect(result.kind).toBe('valid');
    }
    // Tokens with made-up key ids do not make it fetch again and again.
    const unknown = await sign(good, keys.privateKey, { kid: 'made-up' });
    await jwt.verify(unknown);
    await jwt.verify(unknown);
    expect(requests).toBe(1);
  });

  it('that cannot be fetched are no reason to call the token wrong', async () => {
    answer = { status: 500, body: 'down' };
    const jwt = await started({ keys: { url } });
    expect(await jwt.verify(await sign(good))).toMatchObject({ kind: 'invalid', retryable: true });
    expect(logger.error).toHaveBeenCalledTimes(1);
    answer = { status: 200, body: jwks };
    expect(await jwt.verify(await sign(good))).toMatchObject({ kind: 'valid' });
  });
});
