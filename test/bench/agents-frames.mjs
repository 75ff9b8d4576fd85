/**
 * Pretend agents for the benchmark, in a process of their own that costs next to nothing: what is measured shares two cores with them, while
 * real agents have machines of their own. So each speaks frames of HTTP/2 (RFC 9113) and headers (RFC 7541) that were made once, and of what
 * comes it reads what it has to. Each has a connection, registers, opens a stream, and sends a status and a heartbeat each interval, and
 * pings, spread evenly. None carries out commands.
 *
 *   node agents-frames.mjs --address HOST:PORT [--count N] [--interval-ms N]
 *
 * Writes JSON lines: `ready` when all streams are open, `counts` each second.
 */
import { connect } from 'node:net';
import { parseArgs } from 'node:util';
import { AgentControl, registrationOf, statusOf } from '../support/pretend-agent.mjs';

const { values: flags } = parseArgs({
  options: {
    address: { type: 'string', default: '' },
    count: { type: 'string', default: '1' },
    'interval-ms': { type: 'string', default: '30000' },
  },
});
const [count, intervalMs] = [flags.count, flags['interval-ms']].map(Number);
const [, host, port] = /^(.+):(\d+)$/.exec(flags.address);
/** Connections that are begun at once. */
const AT_ONCE = 50;
const PING_EVERY_MS = 30_000;

const { Register, Connect, Heartbeat } = AgentControl.service;
const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));

const [DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE] = [0, 1, 3, 4, 6, 7, 8];
const [END_STREAM, ACK, END_HEADERS] = [1, 1, 4];
const PREFACE = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  frame(SETTINGS, 0, 0, Buffer.alloc(0)),
  // Whatever comes has room.
  frame(WINDOW_UPDATE, 0, 0, Buffer.from([0x3f, 0, 0, 0])),
]);
const headersOf = new Map([Register, Connect, Heartbeat].map(({ path }) => [path, headers(path)]));

function frame(type, flagsOfFrame, stream, payload) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flagsOfFrame;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** A call's headers, without an index: no two connections differ. Each value is shorter than 127 bytes, as a length of one byte has it. */
function headers(path) {
  const text = (value) => [Buffer.from([value.length]), Buffer.from(value)];
  return Buffer.concat([
    // POST, http; then :path, :authority and content-type by the index of their names, and others by their text.
    ...[Buffer.from([0x83, 0x86, 0x04]), ...text(path)],
    ...[Buffer.from([0x01]), ...text(flags.address)],
    ...[Buffer.from([0x0f, 0x10]), ...text('application/grpc')],
    ...[Buffer.from([0x00]), ...text('te'), ...text('trailers')],
    ...[Buffer.from([0x00]), ...text('user-agent'), ...text('grpc-go/1.60.1')],
    ...[Buffer.from([0x00]), ...text('grpc-accept-encoding'), ...text('gzip')],
  ]);
}

/** A message of a call, as gRPC has it: not compressed, with its length. */
function message(call, value) {
  const body = call.requestSerialize(value);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(body.length, 1);
  return Buffer.concat([head, body]);
}

const counts = { open: 0, ended: 0, statuses: 0, beats: 0, answers: 0, failed: 0 };

class PretendAgent {
  #socket;
  #rest = Buffer.alloc(0);
  #stream = 1;
  /** Stream of the call that stays open, and of the one before it. */
  #control = 0;
  #registered;

  constructor(n) {
    this.n = n;
  }

  async connect() {
    const socket = connect({ host, port: Number(port), noDelay: true });
    this.#socket = socket;
    socket.on('data', (chunk) => this.#take(chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      if (this.#control === 0) return;
      counts.open--;
      counts.ended++;
    });
    socket.write(PREFACE);
    const registered = new Promise((done) => (this.#registered = done));
    this.#call(Register, registrationOf(this.n));
    await registered;
    const stream = this.#next();
    socket.write(frame(HEADERS, END_HEADERS, stream, headersOf.get(Connect.path)));
    this.#control = stream;
    counts.open++;
    this.status();
  }

  status() {
    counts.statuses++;
    this.#socket.write(frame(DATA, 0, this.#control, message(Connect, { status: statusOf(this.n) })));
  }

  /** Whether the monitor is still there, as agents in use today ask each 30 s. */
  ping() {
    this.#socket.write(frame(PING, 0, 0, Buffer.alloc(8)));
  }

  beat() {
    counts.beats++;
    this.#call(Heartbeat, { node_id: `bench-${this.n}` });
  }

  /** A call with one message and one answer. */
  #call(call, value) {
    const stream = this.#next();
    const head = frame(HEADERS, END_HEADERS, stream, headersOf.get(call.path));
    this.#socket.write(Buffer.concat([head, frame(DATA, END_STREAM, stream, message(call, value))]));
  }

  #next() {
    const stream = this.#stream;
    this.#stream += 2;
    return stream;
  }

  #take(chunk) {
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    while (bytes.length >= 9) {
      const end = 9 + bytes.readUIntBE(0, 3);
      if (bytes.length < end) break;
      this.#frame(bytes[3], bytes[4], bytes.readUInt32BE(5), bytes.subarray(9, end));
      bytes = bytes.subarray(end);
    }
    this.#rest = bytes;
  }

  #frame(type, flagsOfFrame, stream, payload) {
    const has = (flag) => (flagsOfFrame & flag) !== 0;
    if (type === SETTINGS && !has(ACK)) this.#socket.write(frame(SETTINGS, ACK, 0, Buffer.alloc(0)));
    if (type === PING && !has(ACK)) this.#socket.write(frame(PING, ACK, 0, payload));
    if (type === RST_STREAM || type === GOAWAY) counts.failed++;
    const isAnswered = (type === HEADERS || type === DATA) && has(END_STREAM);
    if (!isAnswered) return;
    counts.answers++;
    if (stream === this.#control) this.#socket.destroy();
    if (this.#control === 0) this.#registered();
  }
}

const agents = Array.from({ length: count }, (_, n) => new PretendAgent(n));
for (let i = 0; i < agents.length; i += AT_ONCE) {
  await Promise.all(agents.slice(i, i + AT_ONCE).map((agent) => agent.connect()));
}
say({ event: 'ready', ...counts });
setInterval(() => say({ event: 'counts', ...counts }), 1000);
/** Over and over, and for the first time after a share of the interval. */
const each = (share, everyMs, work) =>
  setTimeout(() => {
    work();
    setInterval(() => work(), everyMs);
  }, share * everyMs);
for (const [i, agent] of agents.entries()) {
  const share = i / agents.length;
  each(share, intervalMs, () => agent.status());
  each((share + 0.25) % 1, PING_EVERY_MS, () => agent.ping());
  each((share + 0.5) % 1, intervalMs, () => agent.beat());
}
