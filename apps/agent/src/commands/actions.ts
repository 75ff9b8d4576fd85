/** What each type of command does on this node. */
import { type PipeFolder, programEnvironment } from '@carrierarr/execution';
import { type Clock, configEnvNames } from '@carrierarr/platform';
import { type Command, CommandType } from '@carrierarr/protocol/agent-control';
import { createHash } from 'node:crypto';
import { agentSchema, type AgentConfig } from '../config.js';
import { execOf } from './allow.js';
import { pullModel, unloadModel } from './models.js';
import { type OwnTask, startOwn } from './own-work.js';
import { startProgram } from './program-work.js';
import { Refusal, type Work, type WorkOutput } from './work.js';

export interface ActionsOptions {
  config: AgentConfig;
  /** Told to programs as their target. */
  nodeId: () => string;
  env: NodeJS.ProcessEnv;
  pipes: PipeFolder;
  /** Sets or lifts that the node shall get no more work. */
  setDraining: (isDraining: boolean) => Promise<void>;
  setConfig: (args: Readonly<Record<string, string>>) => Promise<string[]>;
  /** Ends the agent itself. */
  exit: () => void;
  clock: Clock;
}

export class Actions {
  readonly #o: ActionsOptions;

  constructor(options: ActionsOptions) {
    this.#o = options;
  }

  /** Begins a command. Rejects with {@link Refusal}. */
  async begin(command: Command, output: WorkOutput): Promise<Work> {
    const { config, setDraining, setConfig } = this.#o;
    const { args } = command;
    switch (command.type) {
      case CommandType.COMMAND_TYPE_EXEC: {
        const answer = execOf({ argv: command.argv, cmd: args['cmd'] }, config.allowExec);
        if (!answer.ok) throw new Refusal(answer.problem);
        return this.#program(answer.argv, command, output);
      }
      case CommandType.COMMAND_TYPE_RESTART_SERVICE:
        return this.#program(['systemctl', 'restart', '--', this.#unit(args['service'])], command, output);
      case CommandType.COMMAND_TYPE_SHUTDOWN:
        return this.#power(config.shutdownCommand, command, output);
      case CommandType.COMMAND_TYPE_REBOOT:
        return this.#power(config.rebootCommand, command, output);
      case CommandType.COMMAND_TYPE_DRAIN:
        return this.#own(output, async (say) => {
          const isDraining = args['undo'] !== 'true';
          await setDraining(isDraining);
          say(isDraining ? 'draining' : 'not draining any more');
        });
      case CommandType.COMMAND_TYPE_PULL_MODEL:
        return this.#own(output, pullModel(config.ollamaUrl, modelOf(args)));
      case CommandType.COMMAND_TYPE_UNLOAD_MODEL:
        return this.#own(output, unloadModel(config.ollamaUrl, modelOf(args)));
      case CommandType.COMMAND_TYPE_UPDATE_CONFIG: {
        const lines = await setConfig(args);
        return this.#own(output, async (say) => lines.forEach(say));
      }
      default:
        throw new Refusal(`This agent does not know commands of type ${command.type}. Upgrade it.`);
    }
  }

  /** Of the program that powers an idle machine off. */
  powerEnvironment(): Record<string, string> {
    return this.#environment('idle-shutdown', 0);
  }

  /** Runs what switches the machine off or restarts it; `exit` ends the agent. */
  async #power(words: string, command: Pick<Command, 'commandId' | 'fence'>, output: WorkOutput): Promise<Work> {
    if (words !== 'exit') return this.#program(words.split(' '), command, output);
    return this.#own(output, async (say) => {
      say('the agent ends itself');
      this.#o.exit();
    });
  }

  #own(output: WorkOutput, task: OwnTask): Work {
    return startOwn(task, output, this.#o.clock);
  }

  #program(
    argv: readonly string[],
    { commandId, fence }: Pick<Command, 'commandId' | 'fence'>,
    output: WorkOutput,
  ): Promise<Work> {
    const { pipes, clock } = this.#o;
    return startProgram({ argv, env: this.#environment(commandId, fence), folder: pipes, output, clock });
  }

  #environment(commandId: string, fence: number): Record<string, string> {
    const { env, nodeId } = this.#o;
    const token = createHash('sha256').update(commandId).digest('hex');
    const facts = { target: nodeId(), execution: commandId, fence, attempt: 1, token };
    return programEnvironment({ env, configNames: configEnvNames(agentSchema), facts });
  }

  /** The unit to restart, by its own name or that of a check which looks at it. */
  #unit(service: string | undefined): string {
    const { allowRestartService: allowed, services } = this.#o.config;
    if (service === undefined || service === '') {
      throw new Refusal('Expected the name of a service (args.service), got none.');
    }
    const check = services?.find(({ name, kind }) => name === service && kind === 'systemd');
    const names = [service, ...(check?.what.split('|') ?? [])];
    const unit = names.find((name) => allowed.some((each) => bareUnit(each) === bareUnit(name)));
    if (unit !== undefined) return unit;
    const rule =
      allowed.length === 0
        ? 'None is; start the agent with --allow-restart-service UNIT,...'
        : `Allowed: ${allowed.join(', ')}.`;
    throw new Refusal(`Restarting ${JSON.stringify(service.slice(0, 200))} is not allowed on this agent. ${rule}`);
  }
}

/** `ollama` and `ollama.service` are one unit. */
function bareUnit(name: string): string {
  return name.replace(/\.service$/, '');
}

function modelOf(args: Readonly<Record<string, string>>): string {
  const model = args['model'];
  if (model === undefined || model === '') throw new Refusal('Expected the name of a model (args.model), got none.');
  return model;
}
