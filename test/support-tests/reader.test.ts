/** A reader who follows a page notices what is not as the page says, also of what goes on until Ctrl-C. */
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { blocksIn } from '../support/documents.js';
import { Reader } from '../support/reader.js';

/** Resolves with a reader of pages about a watch that a server answers like this. `given`: how patient. */
async function reading(answer: (response: ServerResponse) => void, given: { patienceMs?: number } = {}) {
  const server = createServer((_, response) => answer(response));
  onTestFinished(() => void server.close());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const reader = await Reader.start({ ports: { 8090: (server.address() as AddressInfo).port }, ...given });
  onTestFinished(() => reader.close(), 30_000);
  return (shown: string, flags = '') =>
    reader.follow(
      blocksIn(`\`\`\`sh\ncurl -N ${flags} http://127.0.0.1:8090/watch\n\`\`\`\n\`\`\`text\n${shown}\n\`\`\`\n`),
    );
}

it('follows until there is to be seen what the page says', async () => {
  const read = await reading((response) => {
    response.write('one\n', () => response.write('two of it\n'));
  });
  await read('one\ntwo … it');
});

it('waits in vain for what does not come', async () => {
  const read = await reading((response) => void response.write('one\n'), { patienceMs: 2000 });
  await expect(read('one\ntwo')).rejects.toThrow(/Waited 2 s in vain: curl .* to show something that stays, .*two/);
});

it('does not take for shown what a program says of itself', async () => {
  const read = await reading((response) => response.flushHeaders(), { patienceMs: 2000 });
  await expect(read('', '-v')).rejects.toThrow('Waited 2 s in vain: ');
});

it('fails with what ends by itself and did not succeed, whatever it has shown', async () => {
  const read = await reading((response) => {
    response.writeHead(503).end('one\n');
  });
  await expect(read('one')).rejects.toThrow(/to go on, it ended with 22:\none\n/);
});

it('takes what ends by itself, and well', async () => {
  const read = await reading((response) => void response.end('one\n'));
  await read('one');
});
