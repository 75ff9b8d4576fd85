/**
 * What is given to uWebSockets.js is bytes: some of its binaries send a string of Latin-1 characters as such, and clients end connections
 * over which comes what is no UTF-8. The one for this Node.js may be another.
 */
import { FakeClock } from '@carrierarr/platform';
import { expect, it, vi } from 'vitest';
import type uWS from 'uWebSockets.js';
import { Exchange } from '../../apps/gateway/src/http/exchange.js';
import { Connection, type Holder } from '../../apps/gateway/src/ws/connection.js';

const TEXT = 'Größe';

it('a message that is not output', () => {
  const connection = new Connection({ credential: null, address: '127.0.0.1', modern: true, release: () => undefined });
  const send = vi.fn<(frame: unknown) => number>(() => 1);
  connection.socket = { send } as unknown as uWS.WebSocket<Holder>;
  connection.tellError('not_found', TEXT);
  const [frame] = send.mock.calls[0] ?? [];
  expect(frame).toBeInstanceOf(Buffer);
  expect(JSON.parse(String(frame))).toMatchObject({ type: 'error', error: TEXT });
});

it('the answer to a request', () => {
  const end = vi.fn<(body: unknown) => void>();
  const nothing = () => undefined;
  const res = { end, cork: (write: () => void) => write(), writeStatus: nothing, writeHeader: nothing };
  const req = { getCaseSensitiveMethod: () => 'GET', getUrl: () => '/', getQuery: nothing, getHeader: () => '' };
  const clock = new FakeClock();
  const exchange = new Exchange(
    {
      res: { ...res, onAborted: nothing, onData: nothing } as unknown as uWS.HttpResponse,
      req: req as unknown as uWS.HttpRequest,
    },
    { facts: {} as never, bodyBytesMax: 1_000, clock },
  );
  exchange.answer({ status: 200, body: TEXT });
  expect(end.mock.calls[0]?.[0]).toEqual(Buffer.from(TEXT));
});
