import { CancelReason, CommandEnd, CommandType } from '@carrierarr/protocol/agent-control';
import { afterEach, expect, it } from 'vitest';
import { until } from '../../support/until.js';
import { endAgents, startAgent } from '../support/agent-process.js';
import { TestControlPlane } from '../support/control-plane.js';
import { bodyOf, endServers, json, startServer } from '../support/http-server.js';

let control: TestControlPlane;
afterEach(async () => {
  await endAgents();
  control.stop();
  await endServers();
});

/** An agent beside an Ollama that behaves as a test says. */
async function beside(answer: Parameters<typeof startServer>[0]) {
  const ollama = await startServer(answer);
  control = await TestControlPlane.start();
  const agent = await startAgent({ flags: ['--control-plane', control.address, '--ollama-url', ollama.url] });
  await control.connected();
  return { agent, ollama };
}

const pull = (model?: string) =>
  control.command({
    ...{ commandId: 'c1', type: CommandType.COMMAND_TYPE_PULL_MODEL, args: model === undefined ? {} : { model } },
  });

it('pulls a model and streams its progress', async () => {
  let asked: unknown;
  await beside(async (request, response) => {
    if (request.url !== '/api/pull') return json(response, { models: [] });
    asked = JSON.parse(await bodyOf(request));
    for (const status of ['pulling manifest', 'verifying sha256 digest', 'success'])
      response.write(`{"status":"${status}"}\n`);
    response.end();
  });
  pull('llama3:8b');
  expect(await control.result('c1')).toMatchObject({ success: true, exitCode: 0, lines: 3 });
  expect(asked).toMatchObject({ model: 'llama3:8b', stream: true });
  expect(control.text('c1')).toBe('pulling manifest\nverifying sha256 digest\nsuccess\n');
});

it('tells what went wrong with a pull', async () => {
  await beside((request, response) => {
    if (request.url !== '/api/pull') return json(response, { models: [] });
    response.end('{"status":"pulling manifest"}\n{"error":"pull model manifest: file does not exist"}\n');
  });
  pull('nothing');
  expect(await control.result('c1')).toMatchObject({
    ...{ success: false, exitCode: 1, end: CommandEnd.COMMAND_END_EXITED },
    error: 'Ollama could not pull nothing: pull model manifest: file does not exist',
  });
  // Who watches sees what is written, not what is in the result.
  expect(control.text('c1')).toBe(
    'pulling manifest\nOllama could not pull nothing: pull model manifest: file does not exist\n',
  );
});

it('tells of a long error no more than control planes take in a message', async () => {
  await beside((request, response) => {
    if (request.url !== '/api/pull') return json(response, { models: [] });
    response.end(`${JSON.stringify({ error: 'z'.repeat(900_000) })}\n`);
  });
  pull('m');
  const { error } = await control.result('c1');
  expect(error).toMatch(/^Ollama could not pull m: z+$/);
  expect(error.length).toBe(10_000);
});

it('gives up an answer whose line does not end, and one that is cut off', async () => {
  let isEndless = true;
  let isClosed = false;
  await beside((request, response) => {
    if (request.url !== '/api/pull') return json(response, { models: [] });
    if (!isEndless) return void response.write('{"status":"pulling manifest"}\n', () => response.destroy());
    response.on('close', () => (isClosed = true));
    const write = () => {
      while (response.write('y'.repeat(64 * 1024))) continue;
    };
    response.on('drain', write);
    write();
  });
  pull('m');
  expect(await control.result('c1')).toMatchObject({
    ...{ exitCode: 1, end: CommandEnd.COMMAND_END_EXITED },
    error: expect.stringMatching(/^Ollama broke off while pulling m: a line of its answer/) as string,
  });
  await until('the request to end', () => isClosed);
  isEndless = false;
  control.command({ commandId: 'c2', type: CommandType.COMMAND_TYPE_PULL_MODEL, args: { model: 'm' } });
  expect((await control.result('c2')).error).toBe('Ollama broke off while pulling m: aborted');
});

it('does not take a pull that broke off for a success', async () => {
  await beside((request, response) => {
    if (request.url !== '/api/pull') return json(response, { models: [] });
    response.end('{"status":"pulling manifest"}\n');
  });
  pull('m');
  expect((await control.result('c1')).error).toBe('Ollama broke off while pulling m.');
});

it('ends a pull that is cancelled', async () => {
  let isClosed = false;
  await beside((request, response) => {
    if (request.url !== '/api/pull') return json(response, { models: [] });
    response.on('close', () => (isClosed = true));
    response.write('{"status":"pulling manifest"}\n');
  });
  pull('m');
  await until('progress', () => control.text('c1') !== '');
  control.send({ $case: 'cancel', value: { commandId: 'c1', fence: 1, reason: CancelReason.CANCEL_REASON_KILL } });
  expect(await control.result('c1')).toMatchObject({ end: CommandEnd.COMMAND_END_CANCELLED });
  await until('the request to end', () => isClosed);
});

it('puts a model out of memory', async () => {
  let asked: unknown;
  await beside(async (request, response) => {
    if (request.url !== '/api/generate') return json(response, { models: [] });
    asked = JSON.parse(await bodyOf(request));
    json(response, { done: true });
  });
  control.command({ commandId: 'c1', type: CommandType.COMMAND_TYPE_UNLOAD_MODEL, args: { model: 'm' } });
  expect(await control.result('c1')).toMatchObject({ success: true });
  expect(asked).toEqual({ model: 'm', keep_alive: 0, stream: false });
});

it('needs the name of a model, and an Ollama', async () => {
  const { ollama } = await beside((_request, response) => json(response, { models: [] }));
  pull();
  expect(await control.result('c1')).toMatchObject({ end: CommandEnd.COMMAND_END_REFUSED });
  await ollama.stop();
  control.command({ commandId: 'c2', type: CommandType.COMMAND_TYPE_PULL_MODEL, args: { model: 'm' } });
  expect((await control.result('c2')).error).toContain('cannot be reached');
});

it('says which models there are and which lie in memory', async () => {
  await beside((request, response) => {
    if (request.url === '/api/tags')
      return json(response, {
        models: [
          { name: 'a', size: 5 },
          { name: 'b', size: 6 },
        ],
      });
    return json(response, { models: [{ name: 'b', size: 9, expires_at: '2030-01-01T00:00:00Z' }] });
  });
  const [status] = control.statuses();
  expect(status?.loadedModels).toEqual([
    { name: 'a', sizeBytes: 5, currentlyLoaded: false },
    { name: 'b', sizeBytes: 6, currentlyLoaded: true },
  ]);
  expect(status?.ollama?.state).toBe(1);
});
