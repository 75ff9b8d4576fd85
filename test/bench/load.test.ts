/** The load client is the judge of every benchmark, so it is judged here: by a server that misbehaves on purpose. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';

const hasCompiler = process.platform === 'linux' && spawnSync('cc', ['--version']).status === 0;

const frame = (text: string, { final = true, opcode = 1 } = {}) => {
  const payload = Buffer.from(text);
  const first = (final ? 0x80 : 0) | opcode;
  if (payload.length < 126) return Buffer.concat([Buffer.from([first, payload.length]), payload]);
  const head = Buffer.alloc(payload.length < 65_536 ? 4 : 10);
  head[0] = first;
  head[1] = head.length === 4 ? 126 : 127;
  if (head.length === 4) head.writeUInt16BE(payload.length, 2);
  else head.writeBigUInt64BE(BigInt(payload.length), 2);
  return Buffer.concat([head, payload]);
};

const line = (sequence: number) =>
  `{"type":"stdout","target":"bench-0","data":"#0:${sequence}#@${process.hrtime.bigint() / 1000n}@ x"}`;

describe.skipIf(!hasCompiler)('the load client', () => {
  const directory = mkdtempSync(join(tmpdir(), 'carrierarr-load-'));
  const binary = join(directory, 'load');
  let server: Server;
  let load: ChildProcess;

  beforeAll(() => {
    const source = join(import.meta.dirname, 'load/load.c');
    const built = spawnSync('cc', ['-O2', '-o', binary, source], { encoding: 'utf8' });
    if (built.status !== 0) throw new Error(built.stderr);
  });
  afterAll(() => rmSync(directory, { recursive: true }));
  afterEach(() => {
    load.kill('SIGKILL');
    server.close();
  });

  /** Connects one client, lets `talk` write what it likes, and returns the report of the end. */
  const judge = async (talk: (socket: Socket) => Promise<void> | void, flags: string[] = []) => {
    const requests: string[] = [];
    let connected: (socket: Socket) => void;
    const connection = new Promise<Socket>((resolve) => (connected = resolve));
    server = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', (head) => {
        requests.push(head.toString());
        const key = /Sec-WebSocket-Key: (.*)\r\n/.exec(head.toString())?.[1];
        const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
        socket.write(
          `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
        );
        connected(socket);
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const child = spawn(binary, ['--port', String(port), '--connections', '1', ...flags], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    load = child;
    const reports = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const socket = await connection;
    await talk(socket);
    socket.end();
    // It closes when it has read everything.
    if (!socket.closed) await once(socket, 'close');
    child.stdin.end('end\n');
    for (;;) {
      const { value, done } = await reports.next();
      if (done) throw new Error('no report');
      const report = JSON.parse(value);
      if (report.event === 'end') return { ...report, requests };
    }
  };

  test('counts one line per message and one per newline in a message', async () => {
    const report = await judge((socket) => {
      socket.write(frame(line(1)));
      socket.write(frame([line(2), line(3), line(4)].join('\n')));
      socket.write(frame(`${line(5)}\n`));
    });
    expect(report).toMatchObject({ lines: 5, checkedLinesTotal: 5, healthyMissingTotal: 0, duplicateTotal: 0 });
    expect(report.healthyLatency.count).toBe(5);
  });

  test('reads fragments, large frames, and frames that come byte by byte', async () => {
    const many = Array.from({ length: 2000 }, (_, i) => line(i + 3)).join('\n');
    const report = await judge(async (socket) => {
      socket.setNoDelay(true);
      for (const byte of frame(line(1))) await new Promise((written) => socket.write(Buffer.of(byte), written));
      const text = line(2);
      socket.write(frame(text.slice(0, 45), { final: false }));
      socket.write(frame('', { opcode: 9 }));
      socket.write(frame(text.slice(45), { opcode: 0 }));
      socket.write(frame(many));
    });
    expect(report).toMatchObject({ lines: 2002, checkedLinesTotal: 2002, healthyMissingTotal: 0, duplicateTotal: 0 });
  });

  test('sees what is missing, doubled and out of order', async () => {
    const report = await judge((socket) => {
      for (const sequence of [1, 2, 5, 5, 4, 6, 9]) socket.write(frame(line(sequence)));
    });
    expect(report).toMatchObject({
      lines: 7,
      healthyMissingTotal: 3, // 3, 7 and 8; 4 came late
      duplicateTotal: 1,
      reorderedTotal: 1,
    });
  });

  test('measures the latency of a line by its mark', async () => {
    const sent = process.hrtime.bigint() / 1000n - 250_000n;
    const report = await judge((socket) => void socket.write(frame(`#0:1#@${sent}@`)));
    expect(report.healthyLatency.p50Ms).toBeGreaterThanOrEqual(240);
    expect(report.healthyLatency.p50Ms).toBeLessThan(5000);
  });

  test('sends its headers, its messages with the number of the target, and answers a ping', async () => {
    let received = Buffer.alloc(0);
    const report = await judge(
      async (socket) => {
        socket.on('data', (bytes) => (received = Buffer.concat([received, bytes])));
        socket.write(frame('still there?', { opcode: 9 }));
        while (!received.includes('still there?')) await once(socket, 'data');
      },
      ['--header', 'Authorization: Bearer t', '--send', '{"type":"subscribe","target":"bench-%d"}'],
    );
    expect(report.requests[0]).toContain('\r\nAuthorization: Bearer t\r\n');
    expect(received.includes('{"type":"subscribe","target":"bench-0"}')).toBe(true);
    expect(received[received.indexOf('still there?') - 6]).toBe(0x8a);
  });
});
