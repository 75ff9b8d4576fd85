/**
 * What the messages of a stream do. The first says whose stream it is; the registry gives it a fence, and whatever comes over
 * a stream with an older fence than its node's newest ends that stream.
 */
import type { Clock, Logger } from '@carrierarr/platform';
import { streamsCommands } from '@carrierarr/protocol';
import type { AgentMessage, Hello, NodeStatus } from '@carrierarr/protocol/agent-control';
import type { NodeRegistry } from '@carrierarr/store';
import { status as codes } from '@grpc/grpc-js';
import type { AgentLogs } from './agent-logs.js';
import type { AgentStream, Identity } from './agent-stream.js';
import type { CommandResults } from './command-results.js';
import type { LocalStreams } from './local-streams.js';
import type { MailCarrier } from './mail-carrier.js';
import { intervalSecondsOf, problemOfName, registrationOf, statusOf } from './messages.js';
import type { AgentMetrics } from './metrics.js';
import type { OutputPassage } from './output-passage.js';
import type { Registrations } from './peers.js';

/** While output flows its stream's fence is checked this often, ms. The log has fences of its own. */
const CHECK_MS = 1_000;
/** Commands that an agent may say it runs: as many as `--commands-max` allows it. Each is looked at once a second. */
const RUNNING_MAX = 1_000;

/** Who is behind a stream, as its first message says. */
interface Greeting {
  name: string;
  instanceId: string;
  hello?: Hello;
}

export interface StreamsOptions {
  /** Name of this monitor in the registry. */
  monitor: string;
  registry: NodeRegistry;
  registrations: Registrations;
  local: LocalStreams;
  carrier: MailCarrier;
  output: OutputPassage;
  results: CommandResults;
  logs: AgentLogs;
  intervals: { heartbeatMs: number; statusMs: number };
  now: () => number;
  clock: Clock;
  logger: Logger;
  metrics: AgentMetrics;
}

export class Streams {
  readonly #o: StreamsOptions;
  readonly #checkedMs = new WeakMap<AgentStream, number>();

  constructor(options: StreamsOptions) {
    this.#o = options;
  }

  /** Handles one message of a stream. Never rejects. */
  async handle(stream: AgentStream, { payload }: AgentMessage): Promise<void> {
    const { metrics, logger } = this.#o;
    metrics.messages.inc({ kind: payload?.$case ?? 'unknown' });
    // What a newer agent says beside what we know means nothing here.
    if (payload === undefined) return;
    try {
      if (stream.identity === undefined) await this.#greet(stream, payload);
      else await this.#take(stream, stream.identity, payload);
    } catch (error) {
      metrics.refused.inc({ reason: 'unavailable' });
      logger.debug({ err: error, peer: stream.peer, kind: payload.$case }, 'a message of an agent could not be stored');
      // It is said once only, to whoever takes it.
      if (payload.$case === 'goodbye')
        stream.close(codes.UNAVAILABLE, 'This monitor cannot reach Redis now. Say goodbye to another.');
    }
  }

  /** A stream of a node was opened somewhere: an older one here ends. */
  superseded(key: string, fence: number): void {
    const stream = this.#o.local.find(key);
    if (stream?.identity !== undefined && stream.identity.key === key && stream.identity.fence < fence) {
      this.#closeFenced(stream);
    }
  }

  /** To be called when a stream has ended, whyever. */
  closed(stream: AgentStream): void {
    const { local, carrier, registry, logger } = this.#o;
    local.remove(stream);
    carrier.closed(stream);
    const { identity } = stream;
    if (identity === undefined) return;
    logger.info({ node: identity.key, peer: stream.peer }, 'stream of an agent ended');
    registry.closeStream(identity.key, identity.fence).catch((error: unknown) => {
      // Its node then counts as connected until it is silent for too long.
      logger.debug({ err: error, node: identity.key }, 'the end of a stream could not be stored');
    });
  }

  async #greet(stream: AgentStream, payload: NonNullable<AgentMessage['payload']>): Promise<void> {
    const { registrations } = this.#o;
    if (payload.$case !== 'hello' && payload.$case !== 'status') {
      const text = `Expected a status that names the node as the first message, got ${payload.$case}.`;
      return stream.refuse('invalid', codes.INVALID_ARGUMENT, text);
    }
    const running = payload.$case === 'hello' ? payload.value.running.length : 0;
    if (running > RUNNING_MAX) {
      const text = `Expected at most ${RUNNING_MAX} commands that run, got ${running}.`;
      return stream.refuse('invalid', codes.INVALID_ARGUMENT, text);
    }
    const { nodeId, instanceId } = payload.value;
    const name = nodeId || instanceId || registrations.nameOf(stream.peer) || '';
    const greeting: Greeting = { name, instanceId, ...(payload.$case === 'hello' && { hello: payload.value }) };
    const registered = greeting.hello?.registration?.instanceId ?? '';
    for (const each of [name, ...[instanceId, registered].filter((id) => id !== '')]) {
      const problem = problemOfName(each);
      if (problem === undefined) continue;
      const text = `The node's name ${JSON.stringify(each.slice(0, 100))} cannot be used: ${problem}.`;
      return stream.refuse('name', codes.INVALID_ARGUMENT, text);
    }
    try {
      await this.#open(stream, greeting);
    } catch (error) {
      this.#o.logger.debug({ err: error, node: name }, 'a stream could not be opened');
      return stream.refuse('unavailable', codes.UNAVAILABLE, 'This monitor cannot reach Redis now. Try again.');
    }
    if (stream.identity !== undefined && payload.$case === 'status')
      await this.#status(stream, stream.identity, payload.value);
  }

  async #open(stream: AgentStream, { name, instanceId, hello }: Greeting): Promise<void> {
    const { registry, registrations, monitor, carrier, now, logger, metrics } = this.#o;
    if (hello?.registration !== undefined) {
      const said = { ...hello.registration, instanceId: hello.registration.instanceId || instanceId };
      const registration = registrationOf(
        { ...said, features: hello.features, agentVersion: hello.agentVersion },
        now(),
      );
      const answer = await registry.register(name, registration, 'grpc');
      if (answer.kind === 'full') return this.#full(stream, answer.nodes);
      registrations.set(stream.peer, name, answer.key);
      metrics.registrations.inc();
    }
    const key = instanceId || registrations.keyOf(stream.peer, name);
    const answer = await registry.openStream(name, key, monitor);
    if (answer.kind === 'full') return this.#full(stream, answer.nodes);
    const { fence } = answer;
    stream.identity = { key: answer.key, name: answer.name, fence, streamsCommands: streamsCommands(hello?.features) };
    if (stream.isClosed) {
      await registry.closeStream(answer.key, fence);
      return;
    }
    this.#claim(stream, [answer.key, answer.name]);
    logger.info({ node: answer.key, name: answer.name, peer: stream.peer }, 'stream of an agent opened');
    if (hello !== undefined) this.#tellIntervals(stream);
    carrier.opened(stream, hello?.running ?? []);
  }

  #full(stream: AgentStream, nodes: number): void {
    const text = `There are ${nodes} nodes, as many as are allowed.`;
    stream.refuse('nodes', codes.RESOURCE_EXHAUSTED, text);
  }

  #tellIntervals(stream: AgentStream): void {
    const intervals = intervalSecondsOf(this.#o.intervals);
    // Not to agents in use today: to them the other field of the message would mean "never shut down when idle".
    stream.send({ $case: 'config', value: { ...intervals, idleShutdownMinutes: 0, onlyIntervals: true } });
  }

  async #take(stream: AgentStream, identity: Identity, payload: NonNullable<AgentMessage['payload']>): Promise<void> {
    const { carrier, output, results, logs } = this.#o;
    switch (payload.$case) {
      case 'status':
        return this.#status(stream, identity, payload.value);
      case 'hello':
        return stream.refuse('invalid', codes.INVALID_ARGUMENT, 'Expected one Hello on a stream, got another.');
      case 'output':
        // While Redis cannot say, the log itself decides.
        if (await this.#isCurrent(stream, identity, CHECK_MS).catch(() => true))
          await output.take(stream, payload.value);
        return;
      case 'commandResult':
        if (await this.#isCurrent(stream, identity, 0).catch(() => true)) await results.take(stream, payload.value);
        return;
      case 'accepted':
        if (!(await this.#isCurrent(stream, identity, 0))) return;
        return carrier.accepted(stream, payload.value.commandId, payload.value.fence);
      case 'goodbye':
        this.#o.logger.info({ node: identity.key, peer: stream.peer }, 'an agent says that it goes');
        return this.#o.registry.goodbye(identity.key, identity.fence);
      case 'log':
        if (await this.#isCurrent(stream, identity, 0)) await logs.take(identity, payload.value);
    }
  }

  async #status(stream: AgentStream, identity: Identity, status: NodeStatus): Promise<void> {
    const { registry, now } = this.#o;
    this.#confirm(stream, identity, await registry.status(identity.key, identity.fence, statusOf(status, now())));
  }

  /** False: a newer stream of the node has fenced this one, and it is closed. */
  async #isCurrent(stream: AgentStream, identity: Identity, checkedMsMax: number): Promise<boolean> {
    const { registry, clock } = this.#o;
    const nowMs = clock.monotonicMs();
    if (nowMs - (this.#checkedMs.get(stream) ?? -Infinity) < checkedMsMax) return true;
    return this.#confirm(stream, identity, await registry.alive(identity.key, identity.fence));
  }

  #confirm(stream: AgentStream, identity: Identity, key: string | undefined): boolean {
    if (key === undefined) {
      this.#closeFenced(stream);
      return false;
    }
    this.#checkedMs.set(stream, this.#o.clock.monotonicMs());
    if (key !== identity.key) {
      // What was known by its host name alone has registered with an instance id.
      identity.key = key;
      this.#claim(stream, [key]);
    }
    return true;
  }

  #claim(stream: AgentStream, names: readonly string[]): void {
    const other = this.#o.local.name(stream, names);
    if (other?.identity !== undefined && other.identity.fence < (stream.identity?.fence ?? 0)) this.#closeFenced(other);
  }

  #closeFenced(stream: AgentStream): void {
    if (stream.isClosed) return;
    this.#o.metrics.takeovers.inc();
    stream.refuse('fenced', codes.ABORTED, 'There is a newer stream of this node: that one counts, and this one ends.');
  }
}
