import { EventEmitter } from 'node:events';
import { type Component, createLogger, FakeClock, Lifecycle, type ProcessHost } from '@carrierarr/platform';
import { describe, expect, it } from 'vitest';
import { runBuilt } from './built-process.js';
import { until } from './redis-server.js';

function silentLogger(lines: string[] = []) {
  return createLogger({ program: 'test', format: 'json', destination: { write: (line) => void lines.push(line) } });
}

/** Stands for `process`: signals are events, exits are noted. */
class FakeHost extends EventEmitter implements ProcessHost {
  readonly exitCodes: number[] = [];
  written = '';
  readonly stderr = { write: (text: string) => void (this.written += text) };
  readonly exited: Promise<number>;
  #onExit: (code: number) => void = () => undefined;

  constructor() {
    super();
    this.exited = new Promise((resolve) => (this.#onExit = resolve));
  }

  exit(code: number): void {
    this.exitCodes.push(code);
    this.#onExit(code);
  }
}

function gate() {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { open: () => open(), opened };
}

describe('Lifecycle', () => {
  function recorded(names: string[], log: string[], parts: Record<string, Partial<Component>> = {}): Component[] {
    return names.map((name) => ({
      name,
      start: () => void log.push(`start ${name}`),
      stop: () => void log.push(`stop ${name}`),
      ...parts[name],
    }));
  }

  it('starts in order and stops in reverse', async () => {
    const log: string[] = [];
    const lifecycle = new Lifecycle({ components: recorded(['a', 'b', 'c'], log), logger: silentLogger() });
    await lifecycle.start();
    expect(await lifecycle.stop()).toEqual({ timedOut: [], failed: [] });
    await lifecycle.stop();
    expect(log).toEqual(['start a', 'start b', 'start c', 'stop c', 'stop b', 'stop a']);
  });

  it('stops what had started when a part fails to start, and names that part', async () => {
    const log: string[] = [];
    const fails = () => Promise.reject(new Error('port in use'));
    const components = recorded(['a', 'b', 'c'], log, { b: { start: fails } });
    await expect(new Lifecycle({ components, logger: silentLogger() }).start()).rejects.toThrow(
      'Could not start b: port in use',
    );
    expect(log).toEqual(['start a', 'stop a']);
  });

  it('leaves a part that does not stop in time and goes on', async () => {
    const log: string[] = [];
    const clock = new FakeClock();
    const components = recorded(['a', 'b', 'c'], log, {
      b: { stop: () => new Promise(() => undefined), stopDeadlineMs: 500 },
      c: { stop: () => Promise.reject(new Error('broken')) },
    });
    const lifecycle = new Lifecycle({ components, logger: silentLogger(), clock });
    await lifecycle.start();
    const stopped = lifecycle.stop();
    await clock.advanceAsync(499);
    expect(log).not.toContain('stop a');
    await clock.advanceAsync(1);
    expect(await stopped).toEqual({ timedOut: ['b'], failed: ['c'] });
    expect(log.at(-1)).toBe('stop a');
    expect(clock.pendingTimers).toBe(0);
  });

  it('starts no further part once it was told to stop, and stops the one that was starting', async () => {
    const log: string[] = [];
    const begun = gate();
    const starting = gate();
    const start = () => (begun.open(), starting.opened);
    const components = recorded(['a', 'b', 'c'], log, { b: { start } });
    const lifecycle = new Lifecycle({ components, logger: silentLogger() });
    const started = lifecycle.start();
    await begun.opened;
    const stopped = lifecycle.stop();
    starting.open();
    await started;
    await stopped;
    expect(log).toEqual(['start a', 'stop b', 'stop a']);
  });

  it('reports a failure to start that happens while it is told to stop', async () => {
    const log: string[] = [];
    const begun = gate();
    const starting = gate();
    const start = () => (begun.open(), starting.opened.then(() => Promise.reject(new Error('late'))));
    const components = recorded(['a', 'b'], log, { b: { start } });
    const lifecycle = new Lifecycle({ components, logger: silentLogger() });
    const started = lifecycle.start();
    await begun.opened;
    const stopped = lifecycle.stop();
    starting.open();
    await expect(started).rejects.toThrow('Could not start b: late');
    expect(await stopped).toEqual({ timedOut: [], failed: [] });
    expect(log).toEqual(['start a', 'stop a']);
  });

  it('touches no signal unless it is run', async () => {
    const before = process.listenerCount('SIGTERM');
    const lifecycle = new Lifecycle({ components: [], logger: silentLogger() });
    await lifecycle.start();
    expect(process.listenerCount('SIGTERM')).toBe(before);
    await lifecycle.stop();
  });
});

describe('Lifecycle.run', () => {
  it.each(['SIGTERM', 'SIGINT'] as const)('stops on %s and exits with 0', async (signal) => {
    const host = new FakeHost();
    const log: string[] = [];
    const components = [{ name: 'a', start: () => void log.push('start'), stop: () => void log.push('stop') }];
    const run = new Lifecycle({ components, logger: silentLogger() }).run(host);
    host.emit(signal, signal);
    await run;
    expect(host.exitCodes).toEqual([0]);
    expect(log).toEqual(['start', 'stop']);
    expect(host.eventNames()).toEqual([]);
  });

  it('exits at once on a second signal', async () => {
    const host = new FakeHost();
    const hanging = { name: 'a', stop: () => new Promise<void>(() => undefined) };
    void new Lifecycle({ components: [hanging], logger: silentLogger(), clock: new FakeClock() }).run(host);
    host.emit('SIGTERM', 'SIGTERM');
    expect(host.exitCodes).toEqual([]);
    host.emit('SIGINT', 'SIGINT');
    expect(await host.exited).toBe(130);
    expect(host.written).toBe('SIGINT again: exiting at once, without waiting for what is still stopping.\n');
  });

  it('logs an uncaught exception, stops, and exits with 1', async () => {
    const host = new FakeHost();
    const lines: string[] = [];
    let hasStopped = false;
    const components = [{ name: 'a', stop: () => void (hasStopped = true) }];
    const run = new Lifecycle({ components, logger: silentLogger(lines) }).run(host);
    await Promise.resolve();
    host.emit('uncaughtException', new Error('boom'));
    await run;
    expect(host.exitCodes).toEqual([1]);
    expect(hasStopped).toBe(true);
    expect(lines.map((line) => JSON.parse(line) as object)).toContainEqual(
      expect.objectContaining({ level: 'fatal', err: expect.objectContaining({ message: 'boom' }) as unknown }),
    );
  });

  it('exits with 1 when a part cannot start', async () => {
    const host = new FakeHost();
    const components = [{ name: 'a', start: () => Promise.reject(new Error('no')) }];
    await new Lifecycle({ components, logger: silentLogger() }).run(host);
    expect(host.exitCodes).toEqual([1]);
  });
});

describe('a real process', () => {
  const program = (stop: string) => `
    const logger = platform.createLogger({ program: 'test', format: 'json' });
    const idle = setInterval(() => undefined, 1000);
    const part = { name: 'part', start: () => console.log('UP'), stop: () => ${stop} };
    await new platform.Lifecycle({ components: [part], logger }).run();
  `;

  it.each(['SIGTERM', 'SIGINT'] as const)('stops its parts on %s and exits with 0', async (signal) => {
    const running = runBuilt(program("console.log('DOWN')"));
    await until(() => running.output().includes('"started"'));
    running.process.kill(signal);
    expect(await running.ended).toBe(0);
    expect(running.output()).toContain('DOWN');
  });

  it('does not wait after a second signal', async () => {
    const running = runBuilt(program('new Promise(() => undefined)'));
    await until(() => running.output().includes('"started"'));
    running.process.kill('SIGTERM');
    await until(() => running.output().includes('"stopping"'));
    running.process.kill('SIGTERM');
    expect(await running.ended).toBe(143);
    expect(running.output()).toContain('SIGTERM again: exiting at once');
  });

  it('stops its parts and exits with 1 after an unhandled rejection', async () => {
    const running = runBuilt(
      `setTimeout(() => Promise.reject(new Error('boom')), 50);${program("console.log('DOWN')")}`,
    );
    expect(await running.ended).toBe(1);
    expect(running.output()).toMatch(/boom[^]*DOWN/);
  });
});
