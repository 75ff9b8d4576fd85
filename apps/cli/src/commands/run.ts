/**
 * `carrierarr run`: submits a command; with --wait it shows the output and exits with the script's code.
 *
 * Leaving never ends the command (promise C4). Ctrl-C at a terminal asks whether to; anywhere else, nobody can be
 * asked, so it only stops watching, as it does when the terminal itself goes away.
 */
import { randomUUID } from 'node:crypto';
import { type ConfigValues, defineSchema, formats } from '@carrierarr/platform/light';
import { argsSchema, clientIdSchema, isAgentVerb, targetSchema, verbSchema } from '@carrierarr/protocol';
import { Api } from '../client/api.js';
import { targetOfNode } from '../client/node-target.js';
import { Connection, type IdentifiedCommand } from '../client/connection.js';
import { Resume } from '../client/resume.js';
import { Printer } from '../client/printer.js';
import { clientSchema, type ClientSettings, loadClient } from '../client/settings.js';
import { GatewayFailure } from '../client/unreachable.js';
import { exitCodeOf, type Step, Watch } from '../client/watch.js';
import { deferred } from '../deferred.js';
import { EXIT, Failure, UsageError } from '../exit.js';
import { type Host, onSignal, type Verb } from '../host.js';
import { ask, canAsk } from '../terminal/ask.js';
import { Output } from '../terminal/output.js';
import { splitRunArguments } from './run-arguments.js';

export const runSchema = defineSchema({
  wait: {
    doc: 'Show the output and exit with the exit code of the script. Else print the id of the execution.',
    format: formats.boolean,
    default: false,
    env: null,
  },
  timeout: {
    doc: 'End the command after this time; at most the limit of the runner.',
    format: formats.durationBetween(1000, 365 * 24 * 3_600_000),
    default: null,
    env: null,
  },
  id: {
    doc: 'Idempotency id: if it was used before for this target, nothing is run and the first execution is shown.',
    format: formats.textMatching(/^[\x21-\x7e]{1,128}$/, '1 to 128 printable ASCII characters without spaces'),
    default: null,
    env: null,
  },
  idempotent: {
    doc: 'The command may be run again if its runner is lost.',
    format: formats.boolean,
    default: false,
    env: null,
  },
  giveUpAfter: {
    doc: 'With --wait: how long to try to reach a gateway again before giving up watching.',
    format: formats.duration,
    default: '10m',
  },
  ...clientSchema,
});

const NOTES = `What follows COMMAND belongs to the script, also what begins with a dash. --wait is the exception: it may come
last. Everything after \`--\` is the script's, whatever it is:

  carrierarr run worker-1 start --wait
  carrierarr run --timeout 10m worker-1 train --epochs 3
  carrierarr run --wait worker-1 deploy -- --wait --id 7

Of a node (a machine with an agent) these verbs go to the agent: exec, drain, shutdown, reboot, pull-model,
unload-model, restart-service, update-config.

  carrierarr run --wait gpu-1 exec -- uname -a

Exit codes with --wait: that of the script; 124 timed out, 128 + n ended by signal n; 125 carrierarr failed, 126 the
command cannot be run, 130 Ctrl-C. Ctrl-C asks whether to kill the command or only to stop watching; when input or
standard error is no terminal, it only stops watching.`;

export const run: Verb = {
  // 2 may be the script's.
  usageExitCode: EXIT.ours,
  async run(argv, host, summary) {
    const { flags, positionals } = splitRunArguments(argv, runSchema);
    const settings = loadClient({
      verb: 'run',
      summary,
      schema: runSchema,
      argv: [...flags, '--', ...positionals],
      host,
      positionals: 'TARGET COMMAND [ARGS...]',
      count: [2, Number.MAX_SAFE_INTEGER],
      notes: NOTES,
    });
    if (settings === null) return EXIT.done;
    const command = await located(settings, commandOf(settings), new Output(host));
    if (!settings.values.wait && isWaitMeant(argv)) new Output(host).notice(WAIT_NOTICE);
    return settings.values.wait ? new WaitingRun(settings, command, host).run() : submitOnly(settings, command, host);
  },
};

type Settings = ClientSettings<typeof runSchema>;
type Values = ConfigValues<typeof runSchema>;
type TargetCommand = IdentifiedCommand & { readonly target: string; readonly args: string[] };

function commandOf({ positionals, values }: Settings): TargetCommand {
  const [target = '', command = '', ...args] = positionals;
  check('TARGET', targetSchema, target);
  check('COMMAND', verbSchema, command);
  check('ARGS', argsSchema, args);
  const id = values.id ?? `cli-${randomUUID()}`;
  check('--id', clientIdSchema, id);
  if (command === 'kill') throw new UsageError(`Use \`carrierarr kill ${target}\` to end what runs there.`);
  return { type: 'command', target, command, args, id, ...options(values) };
}

function options({ timeout, idempotent }: Values) {
  return { ...(timeout !== null && { timeout_seconds: timeout / 1000 }), ...(idempotent && { idempotent }) };
}

/** A command for an agent, under the target of its node, whichever of its names was given. */
async function located({ access }: Settings, command: TargetCommand, output: Output): Promise<TargetCommand> {
  if (!isAgentVerb(command.command)) return command;
  return { ...command, target: await targetOfNode(access, command.target, output) };
}

const WAIT_NOTICE =
  "`--wait` after `--` was taken for an argument of the command. If it is carrierarr's, put it before the target: " +
  '`carrierarr run --wait TARGET COMMAND -- ...`.';

function isWaitMeant(argv: readonly string[]): boolean {
  return argv.at(-1) === '--wait' && argv.includes('--');
}

interface Checker {
  safeParse(value: unknown): { success: boolean; error?: { issues: readonly { message: string }[] } | undefined };
}

/** The gateway checks too; here the words can be those of the command line. */
function check(name: string, schema: Checker, value: unknown): void {
  const { success, error } = schema.safeParse(value);
  if (success) return;
  const shown = typeof value === 'string' ? `\`${value}\`` : 'these';
  throw new UsageError(`${name} cannot be ${shown}: ${error?.issues[0]?.message ?? 'it is not allowed'}.`);
}

async function submitOnly({ access, values }: Settings, command: TargetCommand, host: Host): Promise<number> {
  const output = new Output(host);
  const { target, command: verb, args, id } = command;
  try {
    const accepted = await new Api(access).submit(target, { command: verb, args, id, ...options(values) });
    if (values.output === 'json') output.json(accepted);
    else output.lines('stdout', [accepted.execution_id]);
    return EXIT.done;
  } catch (error) {
    if (error instanceof GatewayFailure) throw refusal(error.code, error.message, id);
    throw error;
  }
}

/** With the advice that makes a repeat safe, where it is unknown whether the command was taken. */
function refusal(code: string, text: string, id: string): Failure {
  const isUnknown = code === 'unavailable' || code === 'internal' || code === 'unreachable';
  const advice = isUnknown ? ` To repeat it without running it twice, add --id ${id}` : '';
  return new Failure(text + advice, exitCodeOf(code));
}

class WaitingRun {
  readonly #settings: Settings;
  readonly #command: TargetCommand;
  readonly #host: Host;
  readonly #output: Output;
  readonly #api: Api;
  readonly #printer: Printer;
  readonly #resume: Resume;
  readonly #connection: Connection;
  readonly #ended = deferred<number>();
  #watch: Watch | null = null;
  #isAsking = false;
  #isKilled = false;

  constructor(settings: Settings, command: TargetCommand, host: Host) {
    this.#settings = settings;
    this.#command = command;
    this.#host = host;
    this.#output = new Output(host);
    this.#api = new Api(settings.access);
    this.#printer = new Printer({
      output: this.#output,
      isJson: settings.values.output === 'json',
      withTarget: false,
      withEvents: false,
    });
    this.#resume = new Resume(command.target, { kind: 'live' });
    this.#connection = new Connection({
      access: settings.access,
      resume: this.#resume,
      giveUpAfterMs: settings.values.giveUpAfter,
      onMessage: (message) => this.#take(this.#watch?.receive(message) ?? []),
      onHole: (hole) => this.#printer.hole(hole),
      onNotice: (text) => this.#output.notice(text),
    });
  }

  async run(): Promise<number> {
    const forget = [
      onSignal(this.#host, 'SIGINT', () => this.#interrupted()),
      onSignal(this.#host, 'SIGTERM', () => this.#leave(EXIT.terminated)),
    ];
    try {
      await Promise.race([this.#connection.start(), this.#ended.promise]);
      // Only once subscribed: from this point on no line of the execution can be missed.
      this.#watch = new Watch(this.#command.id, this.#resume.position(this.#command.target));
      this.#connection.submit(this.#command);
      return await Promise.race([this.#ended.promise, this.#connection.failed]);
    } catch (error) {
      if (error instanceof GatewayFailure) throw this.#explained(error);
      throw error;
    } finally {
      this.#connection.close();
      for (const each of forget) each();
    }
  }

  #explained(error: GatewayFailure): Failure {
    const execution = this.#watch?.execution;
    if (execution) return new Failure(`${error.message}\n${this.#goesOn(execution)}`);
    return this.#watch === null ? error : refusal(error.code, error.message, this.#command.id);
  }

  #goesOn(execution: string): string {
    const { target, command } = this.#command;
    return (
      `\`${command}\` on ${target} goes on as ${execution}. ` +
      `Watch it with \`${this.#host.command} logs -f --since ${execution} ${target}\`, end it with \`${this.#host.command} kill ${execution}\`.`
    );
  }

  #take(steps: readonly Step[]): void {
    for (const step of steps) this.#do(step);
  }

  #do(step: Step): void {
    switch (step.do) {
      case 'show':
        if (!this.#printer.show(step.message)) this.#waitForReader();
        return;
      case 'notice':
        return this.#output.notice(step.text);
      case 'accepted':
        return this.#accepted(step.message);
      case 'refused':
        this.#connection.answered(this.#command.id);
        return this.#ended.reject(refusal(step.code, step.text, this.#command.id));
      case 'reconnect':
        return this.#connection.reconnect();
      case 'look-up':
        return this.#lookUp(step.execution, (record) => this.#watch?.recorded(record) ?? []);
      case 'rewind':
        this.#resume.rewind(this.#command.target, step.point);
        return this.#connection.reconnect();
      case 'finish':
        if (step.text !== undefined) this.#output.notice(step.text);
        return this.#ended.resolve(this.#isKilled ? EXIT.interrupted : step.exitCode);
    }
  }

  #accepted({ execution_id: execution, position, duplicate }: Extract<Step, { do: 'accepted' }>['message']): void {
    this.#connection.answered(this.#command.id);
    if (duplicate && this.#settings.values.id !== null) {
      this.#output.notice(`The id was used before: this is its execution, ${execution}.`);
      return this.#lookUp(execution, (record) => this.#watch?.duplicate(record) ?? []);
    }
    if (position > 0) {
      const others = position === 1 ? 'one command is' : `${position} commands are`;
      this.#output.notice(`Queued as ${execution}: ${others} before it.`);
    }
  }

  #lookUp(execution: string, then: (record: Awaited<ReturnType<Api['execution']>>) => Step[]): void {
    this.#api.execution(execution).then(
      (record) => this.#take(then(record)),
      (error: unknown) => this.#ended.reject(error),
    );
  }

  #waitForReader(): void {
    this.#connection.pause();
    this.#output.drained().then(
      () => {
        if (!this.#isAsking) this.#connection.resume();
      },
      (error: unknown) => this.#ended.reject(error),
    );
  }

  #interrupted(): void {
    // The second Ctrl-C, during the question or while the kill takes its time, means it.
    if (!canAsk(this.#host) || this.#isAsking || this.#isKilled) return this.#leave(EXIT.interrupted);
    void this.#askWhatToDo().catch((error: unknown) => this.#ended.reject(error));
  }

  async #askWhatToDo(): Promise<void> {
    this.#isAsking = true;
    this.#connection.pause();
    const { target, command } = this.#command;
    const answer = await ask(
      this.#host,
      `\nKill \`${command}\` on ${target}, or only stop watching? [k = kill, s = stop watching, c = continue] `,
    );
    this.#isAsking = false;
    if (answer.startsWith('c')) return this.#connection.resume();
    if (!answer.startsWith('k')) return this.#leave(EXIT.interrupted);
    const execution = this.#watch?.execution;
    if (!execution) {
      this.#output.notice('It has not been accepted yet, so there is nothing to kill.');
      return this.#leave(EXIT.interrupted);
    }
    this.#isKilled = true;
    try {
      await this.#api.kill(execution);
    } catch (error) {
      if (!(error instanceof GatewayFailure) || error.code !== 'already_ended') throw error;
    }
    // What it still writes, and its result, follow.
    this.#connection.resume();
    this.#output.notice(`Killing ${execution}...`);
  }

  #leave(exitCode: number): void {
    // The question has no end of line yet.
    if (this.#isAsking) this.#host.stderr.write('\n');
    const execution = this.#watch?.execution;
    this.#output.notice(
      execution
        ? this.#goesOn(execution)
        : this.#watch === null
          ? 'Nothing was submitted.'
          : `It is unknown whether the command was accepted. To repeat it without running it twice, add --id ${this.#command.id}`,
    );
    this.#ended.resolve(exitCode);
  }
}
