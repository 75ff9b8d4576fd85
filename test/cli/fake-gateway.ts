/**
 * A gateway made of a `ws` server and arrays, to drive the command line's client into corners that a real one reaches
 * rarely. What it receives and sends is checked against the schemas of the protocol, so it cannot drift from them.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  clientMessageSchema,
  type CommandMessage,
  commandBodySchema,
  type Execution,
  executionIdOf,
  executionsBodySchema,
  executionSchema,
  isPattern,
  type LogPoint,
  SERVER_MESSAGES,
  type ServerMessage,
  SUBPROTOCOL,
  type SubscribeMessage,
  targetMatcher,
  targetsBodySchema,
  acceptedBodySchema,
  errorBodySchema,
  ERRORS,
  type ErrorCode,
} from '@carrierarr/protocol';
import { type WebSocket, WebSocketServer } from 'ws';

type Body = Record<string, unknown> & { type: string };
/** A message of the log, without its place. */
interface LogItem {
  readonly body: Body;
  readonly count: number;
  readonly timeMs: number;
}
interface Client {
  readonly socket: WebSocket;
  readonly subscriptions: SubscribeMessage[];
}

export class FakeGateway {
  readonly #http: Server;
  readonly #sockets: WebSocketServer;
  readonly #clients = new Set<Client>();
  readonly #logs = new Map<string, { epoch: string; items: LogItem[]; trimmed: number }>();
  readonly #byClientId = new Map<string, string>();
  /** Everything that clients sent, in order. */
  readonly received: (ReturnType<typeof clientMessageSchema.parse> & { connection: number })[] = [];
  readonly executions = new Map<string, Execution>();
  readonly requests: string[] = [];
  /** Connections taken so far. */
  connections = 0;
  token: string | null = null;
  /** Answers upgrades with this instead. */
  refuseWith: ErrorCode | null = null;
  /** Called with each new command; writes its output. */
  onCommand: (execution: Execution) => void = () => undefined;
  /** Called before a command is taken; true swallows it. */
  onSubmit: (command: CommandMessage) => boolean = () => false;
  /** The answer to a command is lost on the way, if this says so. */
  swallowAnswer: () => boolean = () => false;
  /** Called before a subscription is taken; true swallows it. */
  beforeSubscribe: () => boolean = () => false;
  /** `subscribed` comes after what is replayed. */
  isConfirmationLate = false;
  /** Leaves pings unanswered. */
  mute = false;
  #port = 0;
  #count = 0;

  constructor() {
    this.#http = createServer((request, response) => void this.#respond(request, response));
    this.#sockets = new WebSocketServer({
      noServer: true,
      handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
    });
    this.#http.on('upgrade', (request, socket, head) => {
      const code = this.#isAllowed(request) ? this.refuseWith : 'unauthenticated';
      if (code !== null) {
        const body = JSON.stringify(errorBody(code));
        socket.end(
          `HTTP/1.1 ${ERRORS[code].http} Refused\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`,
        );
        this.connections++;
        return;
      }
      this.#sockets.handleUpgrade(request, socket, head, (ws) => this.#connected(ws));
    });
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async start(): Promise<this> {
    this.#http.listen(this.#port, '127.0.0.1');
    await once(this.#http, 'listening');
    this.#port = (this.#http.address() as AddressInfo).port;
    return this;
  }

  async stop(): Promise<void> {
    this.drop();
    if (!this.#http.listening) return;
    this.#http.close();
    this.#http.closeAllConnections();
    await once(this.#http, 'close');
  }

  /** Cuts every WebSocket, as a killed gateway does. */
  drop(): void {
    for (const { socket } of this.#clients) socket.terminate();
    this.#clients.clear();
  }

  close(code: number, reason = ''): void {
    for (const { socket } of this.#clients) socket.close(code, reason);
    this.#clients.clear();
  }

  /** Sends a frame to everybody as it is. */
  raw(frame: string): void {
    for (const { socket } of this.#clients) socket.send(frame);
  }

  /** Sends to everybody a message that is not of a log. */
  broadcast(body: Body): void {
    for (const client of this.#clients) send(client, body);
  }

  /** Appends to a target's log and sends to its subscribers; `deliver: false` loses it on the way to them. */
  append(target: string, body: Body, { deliver = true } = {}): void {
    const log = this.#log(target);
    const item = { body: { target, ...body }, count: countOf(body), timeMs: Date.now() };
    log.items.push(item);
    if (!deliver) return;
    for (const client of this.#clients) {
      const wanted = client.subscriptions.find((each) => targetMatcher(each.target ?? '*')(target));
      if (wanted) this.#deliver(client, target, this.#end(target) - item.count + 1, item);
    }
  }

  lines(execution: Pick<Execution, 'id' | 'target'>, stream: 'stdout' | 'stderr', lines: string[], options = {}): void {
    this.append(execution.target, { type: 'lines', execution_id: execution.id, stream, lines }, options);
  }

  result(
    execution: Execution,
    exitCode: number,
    outcome = exitCode === 0 ? 'succeeded' : 'failed',
    options = {},
  ): void {
    const ended = { state: 'ended', exit_code: exitCode, outcome, ended_at: new Date().toISOString() };
    this.executions.set(execution.id, executionSchema.parse({ ...this.executions.get(execution.id), ...ended }));
    this.append(
      execution.target,
      { type: 'result', exit_code: exitCode, outcome, execution_id: execution.id },
      options,
    );
  }

  started(execution: Execution): void {
    const point = { epoch: this.#log(execution.target).epoch, first_offset: this.#end(execution.target) + 1 };
    this.executions.set(execution.id, {
      ...execution,
      state: 'running',
      started_at: new Date().toISOString(),
      ...point,
    });
    const { command, args, subject, id } = execution;
    this.append(execution.target, { type: 'started', command, args, subject, runner: 'r1', execution_id: id });
  }

  /** Forgets the first `items` of a target's log. */
  trim(target: string, items: number): void {
    const log = this.#log(target);
    for (const { count } of log.items.splice(0, items)) log.trimmed += count;
  }

  /** Its log is gone, and begins anew. */
  loseLog(target: string): void {
    this.#logs.set(target, { epoch: `${this.#log(target).epoch}+`, items: [], trimmed: 0 });
  }

  position(target: string): LogPoint {
    return { epoch: this.#log(target).epoch, offset: this.#end(target) };
  }

  #log(target: string) {
    const log = this.#logs.get(target) ?? { epoch: `e-${target}`, items: [], trimmed: 0 };
    this.#logs.set(target, log);
    return log;
  }

  #end(target: string): number {
    const { items, trimmed } = this.#log(target);
    return items.reduce((sum, { count }) => sum + count, trimmed);
  }

  #deliver(client: Client, target: string, offset: number, { body }: LogItem, after = 0): void {
    const skip = Math.max(0, after - offset + 1);
    const { epoch } = this.#log(target);
    if (skip >= countOf(body)) return;
    const lines = Array.isArray(body['lines']) ? { lines: (body['lines'] as string[]).slice(skip) } : {};
    send(client, { ...body, ...lines, epoch, offset: offset + skip });
  }

  #connected(socket: WebSocket): void {
    const connection = ++this.connections;
    const client: Client = { socket, subscriptions: [] };
    this.#clients.add(client);
    socket.on('close', () => this.#clients.delete(client));
    socket.on('error', () => undefined);
    send(client, {
      type: 'hello',
      gateway: 'g1',
      version: '0',
      limits: { message_bytes: 65536, subscriptions: 10, commands_per_second: 9 },
    });
    // What a connection gets before it subscribes is not what it asked for.
    send(client, { type: 'stdout', target: 'other', data: 'not for you', epoch: 'x', offset: 1, execution_id: 'x' });
    socket.on('message', (data) => {
      const message = clientMessageSchema.parse(JSON.parse((data as Buffer).toString()));
      this.received.push({ ...message, connection });
      if (message.type === 'ping' && !this.mute) send(client, { type: 'pong' });
      if (message.type === 'subscribe' && !this.beforeSubscribe()) this.#subscribe(client, message);
      if (message.type === 'command') this.#command(client, message);
    });
  }

  #subscribe(client: Client, message: SubscribeMessage): void {
    const pattern = message.target ?? '*';
    const wide = isPattern(pattern);
    client.subscriptions.push(message);
    const names = wide ? [...this.#logs.keys()].filter(targetMatcher(pattern)) : [pattern];
    const replays = names.map((target) => ({ target, after: this.#startOf(message, target) }));
    const place = wide ? {} : { epoch: this.#log(pattern).epoch, offset: replays[0]?.after ?? 0 };
    if (!this.isConfirmationLate) send(client, { type: 'subscribed', target: pattern, ...place });
    for (const { target, after } of replays) this.#replay(client, target, after);
    if (this.isConfirmationLate) send(client, { type: 'subscribed', target: pattern, ...place });
  }

  #startOf({ tail, since, positions }: SubscribeMessage, target: string): number {
    const { epoch, items, trimmed } = this.#log(target);
    const point = positions?.[target] ?? (since !== undefined && 'epoch' in since ? since : undefined);
    if (point !== undefined) return point.epoch === epoch ? point.offset : -1;
    if (tail !== undefined) return Math.max(trimmed, this.#end(target) - tail);
    if (since !== undefined && 'time' in since) {
      const sinceMs = Date.parse(since.time);
      return items.filter(({ timeMs }) => timeMs < sinceMs).reduce((sum, { count }) => sum + count, trimmed);
    }
    return this.#end(target);
  }

  #replay(client: Client, target: string, after: number): void {
    const { epoch, items, trimmed } = this.#log(target);
    if (after < trimmed)
      send(client, {
        type: 'gap',
        target,
        epoch,
        from: after < 0 ? 0 : after + 1,
        to: trimmed,
        reason: after < 0 ? 'epoch' : 'trimmed',
      });
    let offset = trimmed + 1;
    for (const item of items) {
      this.#deliver(client, target, offset, item, after);
      offset += item.count;
    }
  }

  #command(client: Client, message: CommandMessage): void {
    if (this.onSubmit(message)) return;
    const execution = this.accept(message.target ?? 'default', message);
    const { id = '' } = message;
    const isRepeat = execution.attempt > 0;
    // The output may be faster than the answer.
    if (!isRepeat) this.executions.set(execution.id, { ...execution, attempt: 1 });
    if (!isRepeat) this.onCommand({ ...execution, attempt: 1 });
    if (this.swallowAnswer()) return;
    send(client, {
      type: 'accepted',
      target: execution.target,
      id,
      execution_id: execution.id,
      position: 0,
      duplicate: isRepeat,
    });
  }

  /** Takes a command, or finds the execution of its id. */
  accept(target: string, { command, args, id }: Pick<CommandMessage, 'command' | 'args' | 'id'>): Execution {
    const known = this.executions.get(this.#byClientId.get(`${target} ${id}`) ?? '');
    if (known) return known;
    const number = String(++this.#count).padStart(26, '0');
    const execution = executionSchema.parse({
      id: executionIdOf(number, target),
      target,
      command,
      args: args ?? [],
      state: 'queued',
      subject: 'tester',
      address: '127.0.0.1',
      gateway: 'g1',
      idempotent: false,
      accepted_at: new Date().toISOString(),
      attempt: 0,
    });
    this.executions.set(execution.id, execution);
    this.#byClientId.set(`${target} ${id}`, execution.id);
    return execution;
  }

  /** Sends everybody an error of the table. */
  fail(code: ErrorCode, id?: string): void {
    this.broadcast({ type: 'error', error: ERRORS[code].meaning, code, ...(id !== undefined && { id }) });
  }

  #isAllowed({ headers }: IncomingMessage): boolean {
    return this.token === null || headers.authorization === `Bearer ${this.token}`;
  }

  async #respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = '';
    for await (const chunk of request) text += String(chunk);
    const { method = '', url = '' } = request;
    this.requests.push(`${method} ${url}`);
    const [status, body] = this.#isAllowed(request)
      ? this.#answer(method, new URL(url, 'http://x'), text)
      : ([401, errorBody('unauthenticated')] as const);
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  }

  #answer(method: string, url: URL, text: string): readonly [number, unknown] {
    const path = decodeURIComponent(url.pathname);
    const command = /^\/api\/v1\/targets\/(.+)\/commands$/.exec(path);
    if (method === 'POST' && command) {
      const target = command[1] ?? '';
      const body = commandBodySchema.parse(JSON.parse(text));
      if (body.command === 'kill') return [409, errorBody('nothing_running')];
      const execution = this.accept(target, body);
      return [202, acceptedBodySchema.parse({ execution_id: execution.id, target, position: 0, duplicate: false })];
    }
    if (path === '/api/v1/executions') {
      const state = url.searchParams.get('state');
      const found = [...this.executions.values()].filter((each) => state === null || each.state === state);
      return [200, executionsBodySchema.parse({ executions: found })];
    }
    if (path === '/api/v1/targets') {
      const targets = [...this.#logs].map(([target, { epoch }]) => ({
        target,
        queued: 0,
        last_activity: new Date().toISOString(),
        epoch,
        last_offset: this.#end(target),
      }));
      return [200, targetsBodySchema.parse({ targets })];
    }
    const execution = this.executions.get(path.split('/').at(-1) ?? '');
    if (!execution) return [404, errorBody('not_found')];
    if (method !== 'DELETE') return [200, execution];
    this.result(execution, 143, 'killed');
    return [202, {}];
  }
}

function countOf(body: Body): number {
  return Array.isArray(body['lines']) ? body['lines'].length : 1;
}

function errorBody(code: ErrorCode) {
  return errorBodySchema.parse({ error: ERRORS[code].meaning, code, retryable: ERRORS[code].retryable });
}

function send({ socket }: Client, body: Body): void {
  const message = { timestamp: new Date().toISOString(), ...body };
  const { schema } = SERVER_MESSAGES[body.type as ServerMessage['type']];
  socket.send(JSON.stringify(schema.parse(message)));
}
