/**
 * A pretend AWS that real SDK clients talk to over HTTP: the query protocols of EC2, STS and IAM, and the JSON protocols of ECS,
 * CloudWatch, SQS and SSM, on a free port of loopback. What there is and what goes wrong is set by the test.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { answerEc2, ec2Error } from './ec2.js';
import { FakeAwsError, Faults } from './faults.js';
import { iamError, simulated } from './iam.js';
import { jsonOperations } from './json-services.js';
import { callerIdentity, stsError } from './sts.js';
import { FakeWorld } from './world.js';

export { FakeAwsError } from './faults.js';
export type { FakeInstance, FakeTask } from './world.js';

/** How long a question for messages that are not there is held at most, ms. */
const RECEIVE_HOLD_MS_MAX = 20_000;

export interface FakeCall {
  service: string;
  region: string;
  operation: string;
  /** Form fields of EC2, or the JSON's own. */
  input: Record<string, unknown>;
  userAgent: string;
}

export class FakeAws {
  readonly world: FakeWorld;
  readonly faults: Faults;
  /** Every call, refused ones too. */
  readonly calls: FakeCall[] = [];
  readonly #server: Server;
  readonly #held = new Set<() => void>();

  private constructor(nowMs: () => number) {
    this.world = new FakeWorld(nowMs);
    this.faults = new Faults(nowMs);
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  /** `nowMs`: whose time lags and buckets go by; the system's by default. */
  static async start(nowMs: () => number = Date.now): Promise<FakeAws> {
    const fake = new FakeAws(nowMs);
    await new Promise<void>((resolve) => void fake.#server.listen(0, '127.0.0.1', resolve));
    return fake;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get queueUrl(): string {
    return `${this.url}/123456789012/events`;
  }

  /** What SDK clients in this or another process need to come here. */
  get env(): Record<string, string> {
    return {
      AWS_ENDPOINT_URL: this.url,
      AWS_ACCESS_KEY_ID: 'fake',
      AWS_SECRET_ACCESS_KEY: 'fake',
      AWS_REGION: 'eu-central-1',
      AWS_EC2_METADATA_DISABLED: 'true',
    };
  }

  callsOf(operation: string): FakeCall[] {
    return this.calls.filter((call) => call.operation === operation);
  }

  /** Puts a message in the queue; whoever waits for one gets it at once. */
  sendMessage(id: string, body: string): void {
    this.world.messages.push({ id, body });
    for (const release of this.#held) release();
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => void this.#server.close(() => resolve()));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString('utf8');
    const scope = /Credential=[^/]*\/\d+\/([^/]+)\/([^/]+)\//.exec(request.headers.authorization ?? '');
    const [region, service] = [scope?.[1] ?? '', scope?.[2] ?? ''];
    const target = request.headers['x-amz-target'];
    const fields = new URLSearchParams(body);
    const isJson = typeof target === 'string';
    const operation = isJson ? (target.split('.').at(-1) ?? '') : (fields.get('Action') ?? '');
    const input = isJson ? (JSON.parse(body) as Record<string, unknown>) : Object.fromEntries(fields);
    this.calls.push({ service, region, operation, input, userAgent: request.headers['user-agent'] ?? '' });
    if (this.faults.hanging.has(operation)) return;
    if (this.faults.stalling.has(operation)) {
      response.writeHead(200, { 'content-type': 'text/xml' });
      response.write('<');
      return;
    }
    try {
      // Everybody signs; who does not would be turned away.
      if (!scope) throw new FakeAwsError(403, 'MissingAuthenticationToken', 'Request is missing Authentication Token');
      this.faults.check(operation);
      if (operation === 'GetCallerIdentity') {
        respond(response, 200, 'text/xml', callerIdentity());
        return;
      }
      if (operation === 'SimulatePrincipalPolicy') {
        respond(response, 200, 'text/xml', simulated(fields, this.faults));
        return;
      }
      if (!isJson) {
        respond(
          response,
          200,
          'text/xml;charset=UTF-8',
          answerEc2({ operation, region, fields }, this.world, this.faults),
        );
        return;
      }
      const answer = jsonOperations[operation];
      if (!answer) throw new FakeAwsError(400, 'UnknownOperationException', `No operation ${target}`);
      if (operation === 'ReceiveMessage') await this.#holdForMessages(input);
      const type = String(request.headers['content-type']);
      respond(response, 200, type, JSON.stringify(answer({ region, input }, this.world, this.faults)));
    } catch (error) {
      const known = error instanceof FakeAwsError ? error : new FakeAwsError(500, 'InternalFailure', String(error));
      if (isJson) {
        const text = JSON.stringify({ __type: known.code, message: known.message });
        respond(response, known.status, String(request.headers['content-type']), text);
      } else {
        const errors: Record<string, typeof ec2Error> = { sts: stsError, iam: iamError };
        const text = (errors[service] ?? ec2Error)(known);
        respond(response, known.status, 'text/xml;charset=UTF-8', text);
      }
    }
  }

  /** Long polling. */
  async #holdForMessages(input: Record<string, unknown>): Promise<void> {
    const waitMs = Math.min(RECEIVE_HOLD_MS_MAX, Number(input['WaitTimeSeconds'] ?? 0) * 1000);
    if (this.world.messages.length > 0 || waitMs === 0) return;
    await new Promise<void>((resolve) => {
      const release = () => {
        clearTimeout(timer);
        this.#held.delete(release);
        resolve();
      };
      const timer = setTimeout(release, waitMs).unref();
      this.#held.add(release);
    });
  }
}

function respond(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { 'content-type': type, 'x-amzn-requestid': 'fake' });
  response.end(body);
}
