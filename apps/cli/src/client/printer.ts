/** Shows messages of a target's log: a script's lines on the stream they came from, the rest as notices or not at all. */
import { isPattern, type ServerMessage } from '@carrierarr/protocol';
import type { Output } from '../terminal/output.js';
import type { Hole } from './resume.js';

export interface PrinterOptions {
  readonly output: Output;
  readonly isJson: boolean;
  /** Names the target in front of each line. */
  readonly withTarget: boolean;
  /** Says when executions begin and end. */
  readonly withEvents: boolean;
}

export class Printer {
  readonly #options: PrinterOptions;

  constructor(options: PrinterOptions) {
    this.#options = options;
  }

  /** False when whoever reads is slower: stop until the output has drained. */
  show(message: ServerMessage): boolean {
    const { output, isJson, withEvents } = this.#options;
    if (message.type === 'gap') {
      output.notice(gapText(message));
      return isJson ? output.json(message) : true;
    }
    if (isJson) return output.json(message);
    switch (message.type) {
      case 'lines':
        return this.#lines(message.target, message.stream, message.lines);
      case 'stdout':
      case 'stderr':
      case 'log':
        return this.#lines(message.target, message.type, [message.data]);
      case 'error':
        output.notice(this.#named(message.target ?? '', message.error));
        return true;
      case 'started':
        if (withEvents) {
          const what = [message.command, ...message.args].join(' ');
          output.notice(
            this.#named(message.target, `started ${what}${of(message.execution_id)} for ${message.subject}`),
          );
        }
        return true;
      case 'result':
        if (withEvents) {
          const how = message.outcome ?? (message.exit_code === 0 ? 'succeeded' : 'failed');
          const code = message.exit_code < 0 ? '' : `, exit code ${message.exit_code}`;
          output.notice(this.#named(message.target, `${how}${code}${of(message.execution_id)}`));
        }
        return true;
      default:
        return true;
    }
  }

  hole({ target, from, to }: Hole): void {
    this.#options.output.notice(
      `Lines ${from} to ${to} of ${target} did not arrive, and the gateway did not say so: please report this.`,
    );
  }

  #lines(target: string, stream: 'stdout' | 'stderr' | 'log', lines: readonly string[]): boolean {
    const { output, withTarget } = this.#options;
    const shown = withTarget ? lines.map((line) => `${target} | ${line}`) : lines;
    return output.lines(stream === 'stdout' ? 'stdout' : 'stderr', shown);
  }

  #named(target: string, text: string): string {
    return this.#options.withTarget && target !== '' ? `${target}: ${text}` : text;
  }
}

/** True if output of a subscription to `target` needs the target's name in front. */
export function isMany(target: string): boolean {
  return target === '' || isPattern(target);
}

function of(execution: string | undefined): string {
  return execution === undefined ? '' : ` (${execution})`;
}

function gapText({ target, from, to, reason }: Extract<ServerMessage, { type: 'gap' }>): string {
  if (reason === 'epoch') {
    return `The log of ${target} was lost and begins anew${to > 0 ? `; its lines up to ${to} are missing` : ''}.`;
  }
  const why =
    reason === 'trimmed' ? 'the history no longer holds them' : 'the gateway cannot read them, and may need an update';
  return `Lines ${from} to ${to} of ${target} are missing: ${why}.`;
}
