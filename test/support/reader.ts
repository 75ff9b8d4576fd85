/**
 * Somebody who follows a page: types each of its commands into a terminal, starts what serves in terminals of its own, looks
 * until there is to be seen what the page says, and presses Ctrl-C in the end. Addresses that the page names stand for others that
 * are free here; what it calls `redis.example` is a Redis of this reader.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { type Block, commandsOf, isShell } from './documents.js';
import { WORKSPACE } from './programs.js';
import { freePort } from './redis.js';
import { type Job, Terminal } from './terminal.js';
import { until } from './until.js';

const READY_MS = 45_000;
const PATIENCE_MS = 60_000;
/** How long what ends by itself takes from its last line to its end, also on a busy machine. */
const ENDING_MS = 500;

/** What serves until Ctrl-C. */
const SERVES = /^(carrierarr (up|gateway|runner|monitor|agent)|redis-server|npm start)\b(?!.* --help)/;
/** What shows changes until Ctrl-C. */
const FOLLOWS = /^(carrierarr (get|logs)\b.* (-f|-w)\b|curl -N\b)/;
/** What only looks may be asked again, as the reader is told to. */
const LOOKS = /^carrierarr (get|describe|logs|ps)\b/;
/** What a program exits with after Ctrl-C. */
const INTERRUPTED = 130;
/** What a program says when it serves: where. */
const SERVING =
  /"address":"127\.0\.0\.1:(\d+)"|carrierarr is up: http:\/\/127\.0\.0\.1:(\d+)\/|(Ready to accept connections)/;
/** Phases of a worker that is on its way. */
const ON_ITS_WAY = /^(Unknown|Pending|Starting|Stopping|Provisioning|Terminating|Replacing)$/;

/** What a reader has before the page begins. */
export interface Given {
  /** Files beside the checkout's, by name. */
  files?: Readonly<Record<string, string>>;
  env?: Readonly<Record<string, string>>;
  /** An installation that runs, by the ports that pages call 8090, 50051 and 6379. */
  ports?: Readonly<Record<string, number>>;
  /** How long it looks for what the page says is shown, ms. */
  patienceMs?: number;
}

export class Reader {
  readonly #folder: string;
  readonly #terminal: Terminal;
  readonly #jobs: Job[] = [];
  /** Ports in the page, and what they are here. */
  readonly #ports: Map<string, number>;
  /** All that the page has shown so far. */
  readonly #seen: string[] = [];

  readonly #patienceMs: number;

  private constructor(
    folder: string,
    ports: Map<string, number>,
    env: Readonly<Record<string, string>>,
    patienceMs: number,
  ) {
    this.#folder = folder;
    this.#ports = ports;
    this.#patienceMs = patienceMs;
    this.#terminal = new Terminal(join(folder, 'checkout'), env);
  }

  static async start({ files = {}, env = {}, ports = {}, patienceMs = PATIENCE_MS }: Given): Promise<Reader> {
    const folder = mkdtempSync(join(tmpdir(), 'carrierarr-reader-'));
    for (const name of ['bin', 'checkout', 'home', 'tmp']) mkdirSync(join(folder, name));
    // Files that the page makes are not to lie about in this checkout.
    for (const name of readdirSync(WORKSPACE)) symlinkSync(join(WORKSPACE, name), join(folder, 'checkout', name));
    for (const [name, text] of Object.entries(files))
      writeFileSync(join(folder, 'checkout', name), text, { mode: name.endsWith('.sh') ? 0o755 : 0o644 });
    for (const [name, main] of [
      ['carrierarr', 'apps/cli/dist/main.js'],
      ['carrierarr-agent', 'apps/agent/dist/main.js'],
    ] as const) {
      const text = `#!/bin/sh\nexec '${process.execPath}' '${join(WORKSPACE, main)}' "$@"\n`;
      writeFileSync(join(folder, 'bin', name), text, { mode: 0o755 });
    }
    // An answer that refuses is a failure here; and no call may leave for the real AWS, where the CLI looks for some
    // services by a name of its own.
    for (const [name, flags] of [
      // Nor is it a terminal, where there would be no account of progress.
      ['curl', '--silent --show-error --fail-with-body'],
      ['aws', '--endpoint-url "${AWS_ENDPOINT_URL:?}"'],
    ] as const) {
      const text = `#!/bin/sh\nPATH=\${PATH#*:} exec ${name} ${flags} "$@"\n`;
      writeFileSync(join(folder, 'bin', name), text, { mode: 0o755 });
    }
    writeFileSync(join(folder, 'aws'), '[profile my-profile]\n');
    const known = new Map(Object.entries(ports));
    for (const port of ['8090', '50051', '6379']) if (!known.has(port)) known.set(port, await freePort());
    const at = (port: string) => `127.0.0.1:${known.get(port)}`;
    const environment = {
      // No configuration of whoever runs this.
      ...{ HOME: join(folder, 'home'), TMPDIR: join(folder, 'tmp'), LANG: process.env['LANG'] ?? 'C.UTF-8' },
      // What programs use that are told nothing else.
      ...{ CARRIERARR_ADDR: at('8090'), CARRIERARR_URL: `http://${at('8090')}`, CARRIERARR_GRPC_ADDR: at('50051') },
      ...{ CARRIERARR_OPS_ADDR: '127.0.0.1:0', CARRIERARR_HEALTH_PORT: '0', CARRIERARR_METADATA: 'off' },
      ...{ CARRIERARR_STATE_DIR: join(folder, 'state'), CARRIERARR_LOG_FORMAT: 'json' },
      // Grace as short as a reader's patience.
      ...{ CARRIERARR_DRAIN_DELAY: '0s', CARRIERARR_DRAIN_SPREAD: '0s', CARRIERARR_SHUTDOWN_GRACE: '3s' },
      ...{ MOCK_WORKER_STATE_DIR: join(folder, 'workers'), MOCK_WORKER_SPEED: '2' },
      ...env,
      AWS_CONFIG_FILE: join(folder, 'aws'),
      PATH: [join(folder, 'bin'), env['PATH'] ?? process.env['PATH'] ?? ''].join(delimiter),
    };
    return new Reader(folder, known, environment, patienceMs);
  }

  /**
   * Does all that the page says, but for what needs something that it names; before that, these commands. Rejects at the first
   * that is not as it says.
   */
  async follow(page: readonly Block[], before = ''): Promise<void> {
    await this.#do({ language: 'sh', text: before, shows: [] });
    for (const block of page) {
      if (block.file !== undefined) writeFileSync(join(this.#folder, 'checkout', block.file), block.text);
      else if (isShell(block) && block.needs === undefined) await this.#do(block);
    }
  }

  /** Ctrl-C to all that goes on, the newest first. Rejects if something stays. */
  async close(): Promise<void> {
    try {
      await this.#end();
    } finally {
      await this.#terminal.close();
      rmSync(this.#folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    }
  }

  /** What was begun, and what it wrote. */
  log(): string {
    return this.#jobs.map((job) => `--- ${job.command}\n${job.output().slice(-3000)}`).join('\n');
  }

  async #end(): Promise<void> {
    for (let job = this.#jobs.pop(); job; job = this.#jobs.pop()) if (!job.hasEnded) await job.interrupt();
  }

  async #do(block: Block): Promise<void> {
    const followers: Job[] = [];
    let shown = '';
    for (const command of commandsOf(block)) {
      const [, comment = ''] = /\s# (.*)$/.exec(command) ?? [];
      // What installs and tests has run before this does, or runs it.
      const typed = command.replace(/^npm ci && /, '');
      if (/^(npm test|\.ci\/run)\b/.test(typed)) continue;
      if (SERVES.test(typed) && !/exits with/.test(comment)) {
        if (/in place of/.test(comment)) await this.#end();
        await this.#serve(await this.#here(typed));
      } else if (FOLLOWS.test(typed)) {
        const job = await this.#terminal.begin(await this.#here(typed));
        this.#jobs.push(job);
        if (/in one terminal/.test(comment)) followers.push(job);
        else shown += await this.#watch(job, block);
      } else {
        const wanted = Number(/exits with (\d+)/.exec(comment)?.[1] ?? 0);
        // Only what serves nowhere may be given every address.
        shown += await this.#run(wanted === 0 ? await this.#here(typed) : typed, wanted, block);
      }
    }
    for (const job of followers) shown += await this.#watch(job, block);
    const missing = missingIn(shown, block);
    if (missing.length > 0) throw new Error(`${block.text}does not show ${missing.join(', ')}; it shows:\n${shown}`);
  }

  /** Rejects unless it ends as it is to, and shows what it is to show. */
  async #run(command: string, wanted: number, block: Block): Promise<string> {
    const mayRepeat = LOOKS.test(command);
    let ran = await this.#terminal.run(command);
    const isAsItShould = () => ran.code === wanted && (!mayRepeat || missingIn(ran.output, block).length === 0);
    if (mayRepeat && !isAsItShould()) {
      await until(
        () => `${command} to show ${block.shows.join(', ')}; it ends with ${ran.code} and shows:\n${ran.output}`,
        async () => {
          ran = await this.#terminal.run(command);
          return isAsItShould();
        },
        this.#patienceMs,
      );
    }
    if (ran.code !== wanted)
      throw new Error(`Expected ${command} to exit with ${wanted}, got ${ran.code}. It shows:\n${ran.output}`);
    this.#seen.push(ran.output);
    return ran.output;
  }

  async #serve(command: string): Promise<void> {
    // npm starts what is in the folder that it was called in, and builds it before.
    const typed = command.startsWith('npm ') ? `cd '${WORKSPACE}' && ${command}` : command;
    const isUp = /^(carrierarr up|npm start)\b/.test(command);
    const redis = isUp ? 'unset' : `export CARRIERARR_REDIS_URL=redis://127.0.0.1:${this.#ports.get('6379')}`;
    // Only one program can serve agents where agents look for it by themselves.
    const agents = isUp ? '' : 'export CARRIERARR_GRPC_ADDR=127.0.0.1:0;';
    const job = await this.#terminal.begin(`${redis === 'unset' ? '' : `${redis};`} ${agents} ${typed}`);
    this.#jobs.push(job);
    const [, ops, up] = await until(
      () => `${command} to serve; it shows:\n${job.output().slice(-4000)}`,
      () => {
        if (job.hasEnded) throw new Error('It has ended.');
        return SERVING.exec(job.output()) ?? undefined;
      },
      READY_MS,
    );
    const port = up ?? ops;
    if (port === undefined) return;
    await until(
      () => `${command} to be ready; it shows:\n${job.output().slice(-4000)}`,
      async () => {
        const answer = await fetch(`http://127.0.0.1:${port}/ready`, { signal: AbortSignal.timeout(2000) });
        return answer.ok;
      },
      READY_MS,
    );
  }

  /**
   * What it has shown, once there is something, all that the page says is among it, and nothing in it is on its way any more.
   * Rejects if it fails.
   */
  async #watch(job: Job, block: Block): Promise<string> {
    const isSeen = () => {
      const shown = job.stdout();
      return shown !== '' && missingIn(shown, block).length === 0 && !isMoving(shown);
    };
    const what = ['something that stays', ...block.shows].join(', ');
    await until(
      () => `${job.command} to show ${what}; it shows:\n${job.output()}`,
      () => hasFailed(job) || isSeen(),
      this.#patienceMs,
    );
    // What fails may show all that the page says right before it ends.
    await until('it to end', () => job.hasEnded, ENDING_MS).catch(() => undefined);
    if (!job.hasEnded) await job.interrupt();
    if (hasFailed(job))
      throw new Error(`Expected ${job.command} to go on, it ended with ${job.code}:\n${job.output()}`);
    this.#seen.push(job.stdout());
    return job.stdout();
  }

  /** The command with the addresses that are free here, and with what was shown for a name in angle brackets. */
  async #here(command: string): Promise<string> {
    for (const [, port = ''] of command.matchAll(/(?:127\.0\.0\.1:|localhost:|\.example:|addr :|--port )(\d{4,5})\b/g))
      if (!this.#ports.has(port)) this.#ports.set(port, await freePort());
    return command
      .replaceAll(/\bredis\.example:/g, '127.0.0.1:')
      .replaceAll(/(-addr) :(?=\d)/g, '$1 127.0.0.1:')
      .replaceAll(
        /((?:127\.0\.0\.1|localhost):|--port )(\d{4,5})\b/g,
        (_, before: string, port: string) => `${before}${this.#ports.get(port)}`,
      )
      .replaceAll(/<(\w+)>/g, (_, name: string) => {
        const pattern = new RegExp(`"${name}": ?"?([^",}]+)`);
        const value = pattern.exec(this.#seen.findLast((text) => pattern.test(text)) ?? '')?.[1];
        if (value === undefined)
          throw new Error(
            `Expected something shown before to have "${name}", for ${command}; this was:\n${this.#seen.slice(-3).join('---\n')}`,
          );
        return value;
      });
  }
}

/** What the page says that is shown, and is not. */
function missingIn(shown: string, { shows }: Block): RegExp[] {
  const lines = shown.split('\n');
  return shows.filter((line) => !lines.some((text) => line.test(text)));
}

/** Whether it ended otherwise than well, or by Ctrl-C. */
const hasFailed = ({ code }: Job): boolean => code !== undefined && code !== 0 && code !== INTERRUPTED;

/** Whether the newest row of some worker says that it changes. */
function isMoving(output: string): boolean {
  const lines = output.split('\n');
  const phase = /^(NAME +\S+ +)PHASE/.exec(lines[0] ?? '')?.[1]?.length;
  if (phase === undefined) return false;
  const newest = new Map(lines.slice(1).map((line) => [line.split(' ')[0], line]));
  return [...newest.values()].some(
    (line) => ON_ITS_WAY.test(line.slice(phase).split(' ')[0] ?? '') && !/ gone /.test(line),
  );
}
