/**
 * One command from its submission to its outcome, as a client sees it. Pure: messages in, things to do out.
 *
 * Output may overtake the answer `accepted` that names our execution, so until then messages are held back, up to a
 * bound; past it they are dropped, and fetched again from the point before the submit once the execution is known.
 */
import type { Execution, LogPoint, Outcome, ServerMessage, ServerMessageOf } from '@carrierarr/protocol';
import { EXIT } from '../exit.js';

export type Step =
  | { readonly do: 'show'; readonly message: ServerMessage }
  | { readonly do: 'notice'; readonly text: string }
  | { readonly do: 'accepted'; readonly message: ServerMessageOf<'accepted'> }
  /** The gateway would not take the command. */
  | { readonly do: 'refused'; readonly code: string; readonly text: string }
  /** Leave this gateway for another, and submit there. */
  | { readonly do: 'reconnect' }
  /** Ask for the execution's record, and give it to `recorded`. */
  | { readonly do: 'look-up'; readonly execution: string }
  /** Read the log again from a point. */
  | { readonly do: 'rewind'; readonly point: LogPoint }
  | { readonly do: 'finish'; readonly exitCode: number; readonly text?: string };

const HELD_MESSAGES_MAX = 5000;
const HELD_CHARACTERS_MAX = 4 * 1024 * 1024;
/** Errors that say the command cannot be run, rather than that carrierarr failed. */
const CANNOT_RUN = new Set([
  ...['no_script', 'no_runner', 'command_not_allowed', 'cannot_execute'],
  ...['bad_command', 'node_not_connected', 'agent_refused'],
]);

/** Exit code for a command that a gateway refused, or that never got to run, for the reason `code`. */
export function exitCodeOf(code: string | undefined): number {
  return code !== undefined && CANNOT_RUN.has(code) ? EXIT.cannotRun : EXIT.ours;
}

export class Watch {
  readonly #id: string;
  /** Where the log was before the first submit; undefined if the gateway did not say. */
  readonly #before: LogPoint | undefined;
  #execution: string | null = null;
  #held: ServerMessage[] = [];
  #heldCharacters = 0;
  #isOverflown = false;
  #isFinished = false;
  #lastError: string | undefined;

  constructor(id: string, before: LogPoint | undefined) {
    this.#id = id;
    this.#before = before;
  }

  /** Id of the execution, once it is known. */
  get execution(): string | null {
    return this.#execution;
  }

  receive(message: ServerMessage): Step[] {
    if (this.#isFinished) return [];
    switch (message.type) {
      case 'accepted':
        return message.id === this.#id ? this.#accepted(message) : [];
      case 'degraded':
        return [
          { do: 'notice', text: `The gateway is degraded (${message.reason}). Output may come late; none is lost.` },
        ];
      case 'restored':
        return [{ do: 'notice', text: 'The gateway is well again.' }];
      case 'gap':
        // The result itself may be in the hole.
        return [
          { do: 'show', message },
          ...(this.#execution === null ? [] : [{ do: 'look-up', execution: this.#execution } as const]),
        ];
      case 'error':
        if (message.execution_id === undefined) return this.#isAnswer(message) ? this.#refused(message) : [];
        break;
      default:
    }
    const execution = 'execution_id' in message ? message.execution_id : undefined;
    if (execution === undefined) return [];
    if (this.#execution === null) {
      this.#hold(message);
      return [];
    }
    return execution === this.#execution ? this.#own(message) : [];
  }

  /** The record that a `look-up` asked for. */
  recorded(record: Execution): Step[] {
    if (this.#isFinished || record.state !== 'ended') return [];
    return this.#finish(record.outcome ?? 'lost', record.exit_code ?? -1);
  }

  /** The id was used before, and `record` is the first one's: its output may lie before our subscription. */
  duplicate(record: Execution): Step[] {
    const { epoch, first_offset: first } = record;
    if (epoch !== undefined && first !== undefined && (epoch !== this.#before?.epoch || first <= this.#before.offset)) {
      return [{ do: 'rewind', point: { epoch, offset: first - 1 } }];
    }
    return this.recorded(record);
  }

  #isAnswer({ id, offset }: ServerMessageOf<'error'>): boolean {
    return offset === undefined && (id === this.#id || id === undefined);
  }

  #refused({ id, code = 'internal', error }: ServerMessageOf<'error'>): Step[] {
    if (id === undefined) return [{ do: 'notice', text: error }];
    if (this.#execution !== null) return [];
    if (code === 'draining') return [{ do: 'reconnect' }];
    this.#isFinished = true;
    return [{ do: 'refused', code, text: error }];
  }

  #accepted(message: ServerMessageOf<'accepted'>): Step[] {
    if (this.#execution !== null) return [];
    this.#execution = message.execution_id;
    const steps: Step[] = [{ do: 'accepted', message }];
    const held = this.#held;
    this.#held = [];
    if (this.#isOverflown && this.#before !== undefined) {
      steps.push({ do: 'rewind', point: this.#before });
      return steps;
    }
    for (const earlier of held) steps.push(...this.receive(earlier));
    return steps;
  }

  #hold(message: ServerMessage): void {
    if (this.#isOverflown) return;
    this.#held.push(message);
    if (message.type === 'lines') for (const line of message.lines) this.#heldCharacters += line.length;
    else if ('data' in message) this.#heldCharacters += message.data.length;
    if (this.#held.length > HELD_MESSAGES_MAX || this.#heldCharacters > HELD_CHARACTERS_MAX) {
      this.#isOverflown = true;
      this.#held = [];
    }
  }

  #own(message: ServerMessage): Step[] {
    if (message.type === 'error') this.#lastError = message.code;
    const show: Step = { do: 'show', message };
    if (message.type !== 'result') return [show];
    return [
      show,
      ...this.#finish(message.outcome ?? (message.exit_code === 0 ? 'succeeded' : 'failed'), message.exit_code),
    ];
  }

  #finish(outcome: Outcome, exitCode: number): Step[] {
    this.#isFinished = true;
    const text = endingText(outcome);
    const known = exitCode >= 0 ? exitCode : exitCodeOf(this.#lastError);
    return [{ do: 'finish', exitCode: known, ...(text !== undefined && { text }) }];
  }
}

/** A sentence for outcomes that an exit code does not explain by itself. */
function endingText(outcome: Outcome): string | undefined {
  switch (outcome) {
    case 'killed':
      return 'The command was killed.';
    case 'timed-out':
      return 'The command ran into its timeout and was ended.';
    case 'lost':
      return 'The runner of the command was lost; how far the command got is unknown.';
    case 'rejected':
      return 'The command was not run.';
    default:
      return undefined;
  }
}
