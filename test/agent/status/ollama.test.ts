import { connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { connectionsTo, lookAtOllama, ollamaReport } from '../../../apps/agent/src/status/ollama.js';
import { endServers, json, startServer } from '../support/http-server.js';

afterEach(endServers);

const TAGS = {
  models: [
    { name: 'llama3:8b', model: 'llama3:8b', size: 4_661_224_676, digest: 'x', details: { family: 'llama' } },
    { name: 'qwen:0.5b', size: 394_998_579 },
  ],
};
const PS = { models: [{ name: 'llama3:8b', size: 6_654_289_920, expires_at: '2026-06-04T14:38:31.83753-07:00' }] };

describe('what Ollama has', () => {
  it('is what it has on disk, with what lies in memory marked', () => {
    expect(ollamaReport(TAGS, PS)).toEqual({
      isThere: true,
      models: [
        { name: 'llama3:8b', sizeBytes: 4_661_224_676, currentlyLoaded: true },
        { name: 'qwen:0.5b', sizeBytes: 394_998_579, currentlyLoaded: false },
      ],
      loaded: [{ name: 'llama3:8b', expiresMs: Date.parse('2026-06-04T21:38:31.837Z') }],
    });
  });

  it.each([null, [], { models: 'x' }, { models: [1, null, {}, { name: '' }] }])(
    'is nothing if the answer is %j',
    (answer) => {
      expect(ollamaReport(answer, answer)).toEqual({ isThere: true, models: [], loaded: [] });
    },
  );

  it('never expires where the time makes no sense', () => {
    const [model] = ollamaReport({}, { models: [{ name: 'a', size: -1, expires_at: 'soon' }] }).loaded;
    expect(model?.expiresMs).toBe(Number.MAX_SAFE_INTEGER);
  });

  it('is asked over HTTP, on connections that do not stay open', async () => {
    let connections = 0;
    const server = await startServer((request, response) => {
      connections += 1;
      expect(request.headers.connection).toBe('close');
      json(response, request.url === '/api/tags' ? TAGS : PS);
    });
    expect((await lookAtOllama(server.url)).models).toHaveLength(2);
    expect(server.requests.toSorted()).toEqual(['GET /api/ps', 'GET /api/tags']);
    expect(connections).toBe(2);
  });

  it('is nothing where Ollama is absent, or something else is there', async () => {
    const absent = { isThere: false, models: [], loaded: [] };
    expect(await lookAtOllama('http://127.0.0.1:1')).toEqual(absent);
    const other = await startServer((_request, response) => json(response, {}, 404));
    expect(await lookAtOllama(other.url)).toEqual(absent);
  });

  it('is not known where Ollama fails or hangs', async () => {
    const silent = { isThere: false, models: [], loaded: undefined };
    // A proxy before it that is busy, or wants to know who asks, is none either.
    for (const code of [500, 401, 403, 408, 429]) {
      const failing = await startServer((_request, response) => json(response, {}, code));
      expect(await lookAtOllama(failing.url)).toEqual(silent);
    }
    const hanging = await startServer(() => undefined);
    expect(await lookAtOllama(hanging.url, 100)).toEqual(silent);
    const garbled = await startServer((_request, response) => void response.end('<html>'));
    expect(await lookAtOllama(garbled.url)).toEqual(silent);
  });
});

describe('connections to Ollama', () => {
  it('are counted on its side only, when they are established', () => {
    const table = `  sl  local_address rem_address   st tx_queue
   0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000
   1: 0100007F:2CAA 0100007F:D431 01 00000000:00000000
   2: 0100007F:D431 0100007F:2CAA 01 00000000:00000000
   3: 0100007F:2CAA 0100007F:D432 06 00000000:00000000
`;
    expect(connectionsTo(11_434, [table])).toBe(1);
    expect(connectionsTo(11_434, [])).toBe(0);
  });

  it('are found in the tables of this machine', async () => {
    const server = await startServer(() => undefined);
    const port = Number(new URL(server.url).port);
    const { readFile } = await import('node:fs/promises');
    const look = async () => connectionsTo(port, [await readFile('/proc/net/tcp', 'utf8')]);
    expect(await look()).toBe(0);
    const socket = connect(port, '127.0.0.1');
    await new Promise((resolve) => socket.once('connect', resolve));
    await expect.poll(look).toBe(1);
    socket.destroy();
  });
});
