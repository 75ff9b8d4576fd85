/**
 * Clients as programs outside write them, on nothing but a WebSocket: one that knows only the old protocol, and one
 * that speaks `carrierarr.v1` and goes on where it was, at any gateway. Both record what they see and drop nothing:
 * a line that comes twice is the gateway's fault, and must show.
 */
import { WebSocket } from 'ws';
import type { LogPoint } from '@carrierarr/protocol';
import type { Submission } from './history.js';
import type { RecordedSession, Recorder } from './recorder.js';
import { until } from './until.js';

/** A message of a server, as parsed. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Message = { type: string } & Record<string, any>;

/** The `ws://…/ws` of a program's URL. */
export const wsUrl = (httpUrl: string) => `${httpUrl.replace(/^http/, 'ws')}/ws`;

const OUTPUT_TYPES = new Set(['stdout', 'stderr', 'lines']);
const RETRY_MS = 50;
/** Programs are back within seconds. */
const ACCEPTED_MS = 30_000;

/** One connection and all that came over it. */
export class Socket {
  /** Every message but lines of output, unless they are kept too. */
  readonly messages: Message[] = [];
  readonly closed: Promise<{ code: number; reason: string }>;
  isOpen = false;
  #ws: WebSocket;
  #opened: Promise<void>;

  constructor(
    url: string,
    options: {
      protocols?: string[];
      keepsLines?: boolean;
      onMessage?: (message: Message) => void;
    } = {},
  ) {
    const ws = new WebSocket(url, options.protocols ?? [], { perMessageDeflate: false, maxPayload: 64 * 1024 * 1024 });
    this.#ws = ws;
    this.#opened = new Promise((resolve, reject) => {
      ws.once('open', () => {
        this.isOpen = true;
        resolve();
      });
      ws.once('error', reject);
    });
    this.#opened.catch(() => undefined);
    ws.on('error', () => undefined);
    this.closed = new Promise((resolve) => {
      ws.once('close', (code, reason) => {
        this.isOpen = false;
        resolve({ code, reason: String(reason) });
      });
    });
    ws.on('message', (data, isBinary) => {
      if (isBinary) throw new Error('Expected a text frame from the gateway, got a binary one.');
      for (const text of (data as Buffer).toString().split('\n')) {
        if (text === '') continue;
        const message = JSON.parse(text) as Message;
        if (options.keepsLines || !OUTPUT_TYPES.has(message.type)) this.messages.push(message);
        options.onMessage?.(message);
      }
    });
  }

  /** Rejects if the connection is refused. */
  opened(): Promise<void> {
    return this.#opened;
  }

  /** Sends a message, or bytes as they are. */
  send(message: object | string | Buffer): void {
    this.#ws.send(
      typeof message === 'object' && !Buffer.isBuffer(message) ? JSON.stringify(message) : message,
      () => undefined,
    );
  }

  /** Sends bytes as a text frame, whether they are UTF-8 or not. */
  sendAsText(bytes: Buffer): void {
    this.#ws.send(bytes, { binary: false }, () => undefined);
  }

  /** The first message that fits, among those that came and those to come. */
  async next(what: string, fits: (message: Message) => boolean, timeoutMs?: number): Promise<Message> {
    return until(
      () => `${what}; the last messages were ${JSON.stringify(this.messages.slice(-5))}`,
      () => this.messages.find(fits),
      timeoutMs,
    );
  }

  /** Stops (and goes on) reading from the network, as a program that is busy or suspended. */
  pause(): void {
    this.#ws.pause();
  }
  resume(): void {
    this.#ws.resume();
  }

  /** Closes it in order. */
  close(): void {
    this.#ws.close(1000);
  }
  /** Cuts it without a word. */
  terminate(): void {
    this.#ws.terminate();
  }
}

export interface OldClientOptions {
  name: string;
  url: string;
  recorder: Recorder;
  keepsLines?: boolean;
  /** Sees every message, after it was recorded. */
  onMessage?: (message: Message) => void;
}

/** Knows section 1 of the wire facts and nothing else: sees everything, and is never told of an execution. */
export class OldClient {
  readonly socket: Socket;
  readonly session: RecordedSession;
  readonly url: string;
  readonly #o: OldClientOptions;
  #commands = 0;

  private constructor(options: OldClientOptions) {
    this.#o = options;
    this.url = options.url;
    this.session = options.recorder.session(options.name, 'old');
    this.socket = new Socket(wsUrl(options.url), {
      keepsLines: options.keepsLines ?? false,
      onMessage: (message) => {
        this.#record(message);
        options.onMessage?.(message);
      },
    });
  }

  /** Connects, and waits until output is sure to reach it. */
  static async connect(options: OldClientOptions): Promise<OldClient> {
    const client = new OldClient(options);
    await client.socket.opened();
    await client.barrier();
    client.session.joined();
    return client;
  }

  /**
   * Waits until the gateway has handled what was sent. A `ping` would be answered at once; the refusal of a command
   * without a name comes when its turn is, for it has passed all that a real one waits for.
   */
  async barrier(): Promise<void> {
    const target = `no-such-target-${Math.random().toString(36).slice(2)}`;
    this.socket.send({ type: 'command', command: 'kill', target });
    await this.socket.next(
      'an answer to a kill of nothing',
      (message) => message.type === 'error' && message['target'] === target,
    );
  }

  /** Sends a command without an id, as old clients do. The script is told `commandId` as its first argument. */
  submit(target: string, command: string, ...args: (string | number)[]): string {
    const commandId = this.#nextId();
    this.#o.recorder.submitted(this.#o.name, { target, commandId });
    this.socket.send({ type: 'command', command, target, args: [commandId, ...args.map(String)] });
    return commandId;
  }

  #nextId(): string {
    return `${this.#o.name.replaceAll(' ', '-')}-${(this.#commands += 1)}`;
  }

  /** Leaves in the middle of things. */
  leave(): void {
    this.session.cut();
    this.socket.terminate();
  }

  #record(message: Message): void {
    const { type, target } = message;
    if (this.session.isCut) return;
    if (type === 'stdout' || type === 'stderr') this.session.line(target, type, message['data']);
    else if (type === 'result') this.session.event(target, 'result', { exitCode: message['exit_code'] });
    else if (type === 'error') this.#o.recorder.refusedLast(this.#o.name, target);
  }
}

/** The gateway refused a command. */
export class Refusal extends Error {
  override name = 'Refusal';
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

export interface Accepted {
  execution: string;
  position: number;
  duplicate: boolean;
  commandId: string;
}

export interface NewClientOptions {
  name: string;
  /** Gateways (HTTP URLs); it connects to the first, and after a loss to the next. Looked at anew each time. */
  urls: () => readonly string[];
  recorder: Recorder;
  /** Exact names, or `'*'`. */
  targets: readonly string[] | '*';
  tail?: number;
  /** Where it begins to read the only target, instead of live. */
  since?: LogPoint;
  /** `lines` messages (the default), or one message a line. */
  batch?: boolean;
  /** Shown as a browser shows it: as a subprotocol. */
  token?: string;
  /** How long `submitUntilAccepted` goes on, where that is longer than usual. */
  acceptedMs?: number;
  /** Sees every message, after it was recorded. */
  onMessage?: (message: Message) => void;
}

/** Subprotocols of a client of the new protocol. */
export function protocolsWith(token?: string): string[] {
  return [
    'carrierarr.v1',
    ...(token === undefined ? [] : [`carrierarr.bearer.${Buffer.from(token).toString('base64url')}`]),
  ];
}

/** As an argument of a command: its id. */
export const COMMAND_ID = '{command id}';

/** Speaks `carrierarr.v1`; one recorded session over all of its connections. */
export class NewClient {
  readonly session: RecordedSession;
  /** How often it has connected. */
  connections = 0;
  readonly positions = new Map<string, LogPoint>();
  readonly #o: NewClientOptions;
  readonly #unanswered = new Map<
    string,
    { message: object; submission: Submission; settle: (message: Message) => void }
  >();
  readonly #earlier: Message[] = [];
  #socket: Socket | undefined;
  #urlIndex = 0;
  #isStopped = false;
  #subscribedAt: string | undefined;
  #commands = 0;

  private constructor(options: NewClientOptions) {
    this.#o = options;
    const targets = options.targets === '*' ? undefined : new Set(options.targets);
    this.session = options.recorder.session(options.name, 'v1', targets);
  }

  /** Connects, and waits until its subscriptions are confirmed. */
  static async connect(options: NewClientOptions): Promise<NewClient> {
    const client = new NewClient(options);
    await client.#connect();
    client.session.joined();
    return client;
  }

  get socket(): Socket {
    if (this.#socket === undefined) throw new Error(`${this.#o.name} is not connected.`);
    return this.#socket;
  }

  /** Messages other than lines, of all connections. */
  get messages(): Message[] {
    return [...this.#earlier, ...(this.#socket?.messages ?? [])];
  }

  /** The first message that fits, of any connection. */
  next(what: string, fits: (message: Message) => boolean, timeoutMs?: number): Promise<Message> {
    return until(
      () => `${this.#o.name}: ${what}; the last messages were ${JSON.stringify(this.messages.slice(-5))}`,
      () => this.messages.find(fits),
      timeoutMs,
    );
  }

  /**
   * Sends a command; the script gets its id as first argument, or where {@link COMMAND_ID} stands. Resolves with the gateway's answer, however often the
   * connection is lost meanwhile. Rejects with {@link Refusal}.
   */
  async submit(target: string, command: string, ...args: (string | number)[]): Promise<Accepted> {
    return this.submitAs(this.#nextId(), target, command, ...args);
  }

  /** The same with an id of the caller's. */
  async submitAs(commandId: string, target: string, command: string, ...args: (string | number)[]): Promise<Accepted> {
    const submission = this.#o.recorder.submitted(this.#o.name, { target, commandId });
    const all = args.includes(COMMAND_ID) ? args : [COMMAND_ID, ...args];
    const texts = all.map((arg) => (arg === COMMAND_ID ? commandId : String(arg)));
    const message = { type: 'command', command, target, id: commandId, args: texts };
    const answer = await new Promise<Message>((settle) => {
      this.#unanswered.set(commandId, { message, submission, settle });
      if (this.#socket?.isOpen) this.#socket.send(message);
    });
    if (answer.type === 'error') throw new Refusal(answer['code'], answer['error']);
    const { execution_id: execution, position, duplicate } = answer;
    return { execution, position, duplicate, commandId };
  }

  /** Submits again and again, with the same id, until the command is accepted. */
  async submitUntilAccepted(target: string, command: string, ...args: (string | number)[]): Promise<Accepted> {
    const commandId = this.#nextId();
    return until(
      `${commandId} to be accepted`,
      () => this.submitAs(commandId, target, command, ...args),
      this.#o.acceptedMs ?? ACCEPTED_MS,
    );
  }

  #nextId(): string {
    return `${this.#o.name.replaceAll(' ', '-')}-${(this.#commands += 1)}`;
  }

  kill(target: string): void {
    this.socket.send({ type: 'command', command: 'kill', target });
  }

  /** Drops the connection and goes on at another gateway. */
  async moveTo(url: string): Promise<void> {
    const index = this.#o.urls().indexOf(url);
    if (index < 0) throw new Error(`${url} is none of the gateways of ${this.#o.name}.`);
    this.#drop()?.terminate();
    this.#urlIndex = index;
    await this.#connect();
  }

  /** Leaves in the middle of things. */
  leave(): void {
    this.session.cut();
    this.stop();
  }

  stop(): void {
    this.#isStopped = true;
    this.#drop()?.terminate();
  }

  #drop(): Socket | undefined {
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket !== undefined) this.#earlier.push(...socket.messages);
    return socket;
  }

  async #connect(): Promise<void> {
    const urls = this.#o.urls();
    const url = urls[this.#urlIndex % urls.length] ?? '';
    const socket: Socket = new Socket(wsUrl(url), {
      protocols: protocolsWith(this.#o.token),
      onMessage: (message) => {
        if (this.#socket !== socket) return;
        this.#take(message);
        this.#o.onMessage?.(message);
      },
    });
    this.#socket = socket;
    void socket.closed.then(() => this.#lost(socket));
    try {
      await socket.opened();
    } catch (error) {
      if (this.connections === 0) throw error;
      return;
    }
    this.connections += 1;
    const messages = this.#subscriptions();
    for (const message of messages) socket.send(message);
    const names = messages.map((message) => message.target);
    await until(
      `${this.#o.name} to be subscribed to ${names.join(', ')}`,
      () => {
        if (this.#socket !== socket) return 'lost';
        return names.every((name) =>
          socket.messages.some(({ type, target }) => type === 'subscribed' && target === name),
        );
      },
      30_000,
    ).catch((error: unknown) => {
      if (this.connections === 1) throw error;
      socket.terminate();
    });
    if (this.#socket !== socket) {
      if (this.connections === 1)
        throw new Error(`${this.#o.name} lost its first connection before it was subscribed.`);
      return;
    }
    this.#subscribedAt ??= socket.messages.find(({ type }) => type === 'subscribed')?.['timestamp'];
    for (const { message } of this.#unanswered.values()) socket.send(message);
  }

  #subscriptions(): { type: 'subscribe'; target: string; [key: string]: unknown }[] {
    const { targets, tail, since, batch = true } = this.#o;
    const base = { type: 'subscribe', offsets: true, batch } as const;
    if (targets === '*') {
      if (this.#subscribedAt === undefined) return [{ ...base, target: '*', ...(tail !== undefined && { tail }) }];
      return [
        { ...base, target: '*', since: { time: this.#subscribedAt }, positions: Object.fromEntries(this.positions) },
      ];
    }
    return targets.map((target) => {
      const point = this.positions.get(target) ?? since;
      return { ...base, target, ...(point !== undefined ? { since: point } : tail !== undefined && { tail }) };
    });
  }

  #lost(socket: Socket): void {
    if (this.#isStopped || this.#socket !== socket) return;
    this.#drop();
    this.#urlIndex += 1;
    setTimeout(() => {
      if (!this.#isStopped && this.#socket === undefined) void this.#connect();
    }, RETRY_MS);
  }

  #take(message: Message): void {
    if (this.session.isCut) return;
    const { type, target, epoch, offset, execution_id: execution } = message;
    switch (type) {
      case 'lines':
        (message['lines'] as string[]).forEach((line, index) =>
          this.session.line(target, message['stream'], line, { epoch, offset: offset + index }),
        );
        this.positions.set(target, { epoch, offset: offset + message['lines'].length - 1 });
        return;
      case 'stdout':
      case 'stderr':
        this.session.line(target, type, message['data'], { epoch, offset });
        this.positions.set(target, { epoch, offset });
        return;
      case 'accepted':
        this.#answer(message);
        return;
      case 'error':
        this.#answer(message);
        // Of an execution, or an answer to us.
        if (offset === undefined) return;
        break;
      case 'gap':
        this.session.gap(target, message['reason']);
        this.positions.set(target, { epoch, offset: message['to'] });
        return;
      case 'subscribed':
        if (epoch !== undefined && offset !== undefined && !this.positions.has(target))
          this.positions.set(target, { epoch, offset });
        return;
      case 'migrate':
        this.#migrate(message['delay_ms']);
        return;
      case 'started':
      case 'result':
        break;
      default:
        return;
    }
    this.session.event(target, type, {
      execution,
      epoch,
      offset,
      outcome: message['outcome'],
      exitCode: message['exit_code'],
    });
    this.positions.set(target, { epoch, offset });
  }

  #answer(message: Message): void {
    const waiting = this.#unanswered.get(message['id']);
    if (waiting === undefined) return;
    this.#unanswered.delete(message['id']);
    if (message.type === 'accepted') this.#o.recorder.accepted(waiting.submission, message['execution_id']);
    else this.#o.recorder.refused(waiting.submission, message['code']);
    waiting.settle(message);
  }

  /** The gateway is about to stop: goes elsewhere when it was told to. */
  #migrate(delayMs: number): void {
    const socket = this.#socket;
    setTimeout(() => {
      if (this.#isStopped || this.#socket !== socket) return;
      this.#drop()?.close();
      this.#urlIndex += 1;
      void this.#connect();
    }, delayMs);
  }
}
