/** A process to run the command line in: streams that are kept, signals that are sent by hand. */
import { EventEmitter } from 'node:events';
import { PassThrough, Writable } from 'node:stream';
import { type Host, runCommandLine } from '@carrierarr/cli';

class Kept extends Writable {
  text = '';
  isTTY = false;
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += String(chunk);
    done();
  }
}

export class FakeHost extends EventEmitter implements Host {
  readonly command = 'carrierarr';
  readonly env: NodeJS.ProcessEnv;
  readonly stdin: PassThrough & { isTTY?: boolean } = new PassThrough();
  readonly stdout = new Kept();
  readonly stderr = new Kept();

  constructor(env: NodeJS.ProcessEnv = {}) {
    super();
    this.env = { XDG_CONFIG_HOME: '/nonexistent', ...env };
  }

  signal(signal: 'SIGINT' | 'SIGTERM'): void {
    this.emit(signal);
  }

  /** As if a person sat there. */
  terminal(): this {
    this.stdin.isTTY = true;
    this.stdout.isTTY = true;
    this.stderr.isTTY = true;
    return this;
  }

  run(...argv: string[]): Promise<number> {
    return runCommandLine(argv, this);
  }
}
