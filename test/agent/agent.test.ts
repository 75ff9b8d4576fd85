import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  CancelReason,
  CommandEnd,
  CommandType,
  HealthState,
  NodeType,
  OutputStream,
} from '@carrierarr/protocol/agent-control';
import { type Clock, systemClock } from '@carrierarr/platform';
import { afterEach, describe, expect, it } from 'vitest';
import { isRunning } from '../support/processes.js';
import { until } from '../support/until.js';
import { Journal } from '../../apps/agent/src/commands/journal.js';
import { emptyResult } from '../../apps/agent/src/commands/running-command.js';
import { endAgents, startAgent } from './support/agent-process.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { TestControlPlane } from './support/control-plane.js';

const planes: TestControlPlane[] = [];
afterEach(async () => {
  await endAgents();
  for (const made of planes.splice(0)) made.stop();
});

async function plane(options: Parameters<typeof TestControlPlane.start>[0] = {}): Promise<TestControlPlane> {
  const made = await TestControlPlane.start(options);
  planes.push(made);
  return made;
}

const flagsFor = (...where: TestControlPlane[]) => ['--control-plane', where.map(({ address }) => address).join(',')];

describe('registration and stream', () => {
  it('registers with what it was told, says hello, then how it is', async () => {
    const control = await plane();
    const told = [
      '--instance-id',
      'i-1',
      '--region',
      'r1',
      '--az',
      'r1a',
      '--nebula-ip',
      '10.0.0.1',
      '--type',
      'lighthouse',
    ];
    await startAgent({ flags: [...flagsFor(control), ...told, '--labels', '{"team":"ml"}', '--public-ip', '1.2.3.4'] });
    await control.connected();
    expect(control.registrations[0]).toMatchObject({
      ...{ nodeId: 'node-1', instanceId: 'i-1', region: 'r1', availabilityZone: 'r1a', nebulaIp: '10.0.0.1' },
      ...{
        nodeType: NodeType.NODE_TYPE_LIGHTHOUSE,
        publicIp: '1.2.3.4',
        labels: { team: 'ml' },
        features: ['commands.v1'],
      },
    });
    const [first, second] = control.messages;
    expect(first).toMatchObject({ $case: 'hello', value: { nodeId: 'node-1', instanceId: 'i-1', running: [] } });
    expect(second).toMatchObject({ $case: 'status', value: { nodeId: 'node-1', instanceId: 'i-1', draining: false } });
    const [status] = control.statuses();
    expect(status?.resources?.memoryTotalMb).toBeGreaterThan(100);
    expect(status?.resources?.diskTotalMb).toBeGreaterThan(100);
    expect(status?.health).toBe(HealthState.HEALTH_STATE_HEALTHY);
  });

  it('says to an old control plane only what agents have always said, the status first', async () => {
    const control = await plane({ isOld: true });
    await startAgent({ flags: [...flagsFor(control), '--allow-exec', '*'] });
    await control.connected();
    control.command({
      commandId: 'c1',
      argv: [],
      fence: 0,
      killGraceMs: 0,
      outageGraceMs: 0,
      args: { cmd: 'echo hi; exit 3' },
    });
    await control.result('c1');
    expect(control.messages.map(({ $case }) => $case)).toEqual(['status', 'commandResult']);
    expect(control.results('c1')[0]).toMatchObject({ success: false, exitCode: 3, stdout: 'hi\n', stderr: '' });
  });

  it('sends the token, and refuses to send one in clear beyond this machine', async () => {
    const control = await plane();
    await startAgent({ flags: [...flagsFor(control), '--token', 'secret-token'] });
    await control.connected();
    expect(control.tokens).toEqual(['Bearer secret-token']);
    await expect(
      startAgent({ flags: ['--control-plane', 'control.example', '--token', 'secret-token'] }),
    ).rejects.toThrow(/Expected TLS for a token that is sent to control\.example:50051/);
  });

  it('comes back to the next control plane when it loses one, and goes on with what runs', async () => {
    const [one, two] = [await plane(), await plane()];
    await startAgent({ flags: [...flagsFor(one, two), '--allow-exec', '*'] });
    const first = await until('a stream', () => [one, two].find(({ messages }) => messages.length >= 2));
    const other = first === one ? two : one;
    first.command({ commandId: 'c1', argv: ['sh', '-c', 'echo one; read -r _ </dev/zero; echo two'] });
    first.command({ commandId: 'c2', argv: ['sh', '-c', 'echo one; sleep 30'] });
    await until('output', () => first.text('c2') === 'one\n');
    first.stop();
    // What the first one had stored, the second has, too.
    for (const [id, log] of first.logs) other.logs.set(id, [...log]);
    await other.connected();
    const hello = other.messages[0];
    expect(hello?.$case === 'hello' && hello.value.running).toEqual(
      ['c1', 'c2'].filter((id) => id === 'c2' || first.results(id).length === 0),
    );
    other.send({ $case: 'cancel', value: { commandId: 'c2', fence: 1, reason: CancelReason.CANCEL_REASON_KILL } });
    expect(await other.result('c2')).toMatchObject({ end: CommandEnd.COMMAND_END_CANCELLED, sequence: 1, lines: 1 });
  });

  it('does not give up on a control plane that is not there yet', async () => {
    const gone = await plane();
    const { port } = gone;
    gone.stop();
    const agent = await startAgent({ flags: ['--control-plane', `127.0.0.1:${port}`] });
    await until('a failure', () => agent.logs().includes('no connection to the control plane'));
    expect(agent.readiness.ready().ready).toBe(false);
    const back = await plane({ port });
    await back.connected();
    await until('ready', () => agent.readiness.ready().ready);
  });
});

describe('its last word', () => {
  it('is goodbye when it stops, after the results of what it ran', async () => {
    const control = await plane();
    const agent = await startAgent({ flags: [...flagsFor(control), '--allow-exec', '*'] });
    await control.connected();
    control.command({ commandId: 'c1', argv: ['sleep', '60'] });
    await until('its start', () => control.accepted('c1') === 1);
    await agent.stop();
    expect(control.messages.slice(-2).map(({ $case }) => $case)).toEqual(['commandResult', 'goodbye']);
  });

  /** Stops while no control plane is there; one comes back meanwhile. */
  async function stopsAlone(options: Parameters<typeof plane>[0], stateDir?: string): Promise<TestControlPlane> {
    const gone = await plane();
    const { port } = gone;
    gone.stop();
    const flags = ['--control-plane', `127.0.0.1:${port}`];
    const agent = await startAgent({ flags, ...(stateDir !== undefined && { stateDir }) });
    await until('a failure', () => agent.logs().includes('no connection to the control plane'));
    const stopping = agent.stop();
    const back = await plane({ ...options, port });
    await stopping;
    return back;
  }

  it('is said over a stream for that alone, with results that wait, if none is open when it stops', async () => {
    const stateDir = temporaryFolder('agent-');
    const journal = new Journal({
      ...{ folder: stateDir, hold: () => Promise.resolve(), resultsMax: 10, resultBytesMax: 1e7 },
      onDropped: () => undefined,
    });
    await journal.open();
    await journal.see('c1', 1, 1);
    await journal.end({ ...emptyResult('c1', 1), end: CommandEnd.COMMAND_END_EXITED });
    await journal.close();
    const back = await stopsAlone({}, stateDir);
    expect(back.registrations).toHaveLength(1);
    expect(back.messages.map(({ $case }) => $case)).toEqual(['hello', 'commandResult', 'goodbye']);
  });

  it('is no reason to open a stream at a control plane that knows no goodbye', async () => {
    const back = await stopsAlone({ isOld: true });
    expect(back.registrations).toHaveLength(1);
    expect(back.streams).toEqual([]);
  });

  it('is said again to another control plane if it is not known to be taken', async () => {
    const one = await plane();
    const two = await plane();
    const agent = await startAgent({ flags: flagsFor(one, two) });
    const first = await until('a stream', () => [one, two].find(({ messages }) => messages.length >= 2));
    const other = first === one ? two : one;
    first.onGoodbye = () => first.stop();
    await agent.stop();
    expect(other.messages.map(({ $case }) => $case)).toEqual(['hello', 'goodbye']);
  });

  it('is given up soon if nobody takes it, and it says so', async () => {
    const gone = await plane();
    gone.stop();
    const shortly: Clock = {
      ...{ now: () => systemClock.now(), monotonicMs: () => systemClock.monotonicMs() },
      setInterval: (callback, ms) => systemClock.setInterval(callback, ms),
      setTimeout: (callback, ms) => systemClock.setTimeout(callback, ms / 20),
    };
    const agent = await startAgent({ flags: flagsFor(gone), clock: shortly });
    await agent.stop();
    expect(agent.logs()).toContain('no control plane took the word that this agent goes');
  });

  it('is not said when a stream breaks, and not to control planes that do not know it', async () => {
    const old = await plane({ isOld: true });
    const agent = await startAgent({ flags: flagsFor(old) });
    await old.connected();
    old.streams[0]?.end();
    await old.connected(2);
    await agent.stop();
    const control = await plane();
    await startAgent({ flags: flagsFor(control) });
    (await control.connected()).end();
    await control.connected(2);
    const said = [...old.messages, ...control.messages].map(({ $case }) => $case);
    expect(said).not.toContain('goodbye');
  });
});

describe('commands', () => {
  async function started(flags: string[] = ['--allow-exec', '*']) {
    const control = await plane();
    const agent = await startAgent({ flags: [...flagsFor(control), ...flags] });
    await control.connected();
    return { control, agent };
  }

  it('runs a program without a shell, streams its lines and tells its exit code', async () => {
    const { control } = await started(['--allow-exec', 'printf']);
    control.command({
      commandId: 'c1',
      fence: 7,
      argv: ['printf', String.raw`%s\n`, '$HOME', 'b c'],
      args: { cmd: 'ignored' },
    });
    expect(await control.result('c1')).toMatchObject({
      ...{ success: true, exitCode: 0, end: CommandEnd.COMMAND_END_EXITED, fence: 7, lines: 2, truncatedLines: 0 },
      ...{ stdout: '', error: '' },
    });
    expect(control.text('c1')).toBe('$HOME\nb c\n');
    expect(control.accepted('c1')).toBe(1);
    expect(control.results('c1')[0]?.sequence).toBe(control.logs.get('c1')?.length);
  });

  it('hides the secrets of its programs that it was told of, and its own', async () => {
    const control = await plane();
    const file = join(temporaryFolder('agent-'), 'secrets');
    await writeFile(file, 'from-a-file\n');
    const agent = await startAgent({
      flags: [
        ...[...flagsFor(control), '--allow-exec', '*', '--token', 'token-to-join'],
        ...['--redact-env', 'API_KEY', '--redact-file', file],
      ],
      env: { PATH: process.env['PATH'] ?? '', API_KEY: 'hunter22' },
    });
    await control.connected();
    const argv = ['printf', String.raw`%s\n`, 'a hunter22', 'b from-a-file', 'c token-to-join'];
    control.command({ commandId: 'c1', argv });
    await control.result('c1');
    expect(control.text('c1')).toBe('a ***\nb ***\nc ***\n');
    expect(await agent.metric('carrierarr_agent_redactions_total')).toBe(3);
  });

  it('tells both streams apart, and the program its facts', async () => {
    const { control } = await started();
    const script = 'echo out; echo err >&2; exec printenv EC2_AGENT_TARGET CARRIERARR_EXECUTION_ID';
    control.command({ commandId: 'c1', argv: ['sh', '-c', script] });
    await control.result('c1');
    const linesOf = (wanted: OutputStream) =>
      (control.logs.get('c1') ?? []).flatMap(({ runs, body }) => {
        const lines = body.toString().split('\n');
        return runs.flatMap(({ stream, lines: count }) => {
          const some = lines.splice(0, count);
          return stream === wanted ? some : [];
        });
      });
    expect(linesOf(OutputStream.OUTPUT_STREAM_STDOUT)).toEqual(['out', 'node-1', 'c1']);
    expect(linesOf(OutputStream.OUTPUT_STREAM_STDERR)).toEqual(['err']);
  });

  it.each([
    ['nothing is allowed', [], ['uname'], /exec is off/],
    ['it is not on the list', ['--allow-exec', 'uname,/bin/ls'], ['ls'], /"ls" is not allowed.*uname, \/bin\/ls/],
    ['it is not there', ['--allow-exec', '*'], ['no-such-program'], /no program "no-such-program"/],
    ['it is a relative path', ['--allow-exec', '*'], ['./x'], /no program/],
  ])('refuses exec if %s', async (_why, flags, argv, problem) => {
    const { control } = await started(flags);
    control.command({ commandId: 'c1', argv });
    const result = await control.result('c1');
    expect(result).toMatchObject({ end: CommandEnd.COMMAND_END_REFUSED, success: false, lines: 0 });
    expect(result.error).toMatch(problem);
  });

  it('runs a command once, however often it is sent, and says its result again', async () => {
    const { control, agent } = await started();
    const marker = `${agent.stateDir}/ran`;
    const command = { commandId: 'c1', argv: ['sh', '-c', `echo x >> ${marker}; cat ${marker}; sleep 0.3`] };
    for (let i = 0; i < 3; i++) control.command(command);
    await control.result('c1');
    control.command(command);
    await until('the result again', () => control.results('c1').length >= 2);
    expect(control.text('c1')).toBe('x\n');
    expect(await agent.metric('carrierarr_agent_repeated_commands_total')).toBeGreaterThanOrEqual(1);
  });

  it('runs a command again that comes with a newer fence, once what runs of it has ended', async () => {
    const { control, agent } = await started();
    const marker = `${agent.stateDir}/ran`;
    const command = (fence: number) => ({
      ...{
        commandId: 'c1',
        fence,
        argv: ['sh', '-c', `echo ${fence} >> ${marker}; [ ${fence} = 5 ] && sleep 60; cat ${marker}`],
      },
    });
    control.command(command(5));
    await until('the first start', () => control.accepted('c1') === 1);
    await until('its work', () => existsSync(marker));
    await until('the second start', () => {
      control.command(command(6));
      return control.accepted('c1') > 1;
    });
    expect(await control.result('c1')).toMatchObject({ fence: 6, success: true, lines: 2 });
    control.command(command(5));
    await until('the result again', () => control.results('c1').length >= 2);
    expect(control.text('c1')).toBe('5\n6\n');
  });

  it('loses and doubles no line when answers are lost or the store is away', async () => {
    const { control } = await started();
    let count = 0;
    let lastSends = 0;
    control.onOutput = ({ body }) => {
      count += 1;
      // The last entry needs several attempts: a result must not come before it.
      if (body.toString().endsWith('40')) return ++lastSends < 7 ? 'unavailable' : 'store';
      return count % 5 === 2 ? 'unavailable' : 'store';
    };
    control.command({ commandId: 'c1', argv: ['sh', '-c', 'for i in $(seq 1 40); do echo $i; sleep 0.005; done'] });
    const result = await control.result('c1');
    expect(control.text('c1')).toBe(Array.from({ length: 40 }, (_, i) => `${i + 1}\n`).join(''));
    expect(result.lines).toBe(40);
    expect(result.sequence).toBe(control.logs.get('c1')?.length);
  });

  it('sends again what was stored but not answered when the stream broke', async () => {
    const { control, agent } = await started();
    control.onOutput = () => 'silent';
    control.command({ commandId: 'c1', argv: ['sh', '-c', 'echo a; sleep 0.2; echo b'] });
    await until('the entry', () => control.logs.get('c1')?.length === 1);
    control.onOutput = () => 'store';
    control.streams.at(-1)?.end();
    await control.result('c1');
    expect(control.text('c1')).toBe('a\nb\n');
    expect(await agent.metric('carrierarr_agent_append_retries_total')).toBeGreaterThanOrEqual(1);
  });

  it('ends a cancelled command with all its descendants', async () => {
    const { control } = await started();
    control.command({
      commandId: 'c1',
      killGraceMs: 200,
      argv: ['sh', '-c', "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; sleep 60' & echo $$; wait; sleep 60"],
    });
    const pids = await until('both processes', () => {
      const lines = control.text('c1').trim().split('\n');
      return lines.length === 2 && lines.map(Number);
    });
    control.send({ $case: 'cancel', value: { commandId: 'c1', fence: 1, reason: CancelReason.CANCEL_REASON_KILL } });
    expect(await control.result('c1')).toMatchObject({
      end: CommandEnd.COMMAND_END_CANCELLED,
      signal: 'SIGKILL',
      exitCode: 137,
    });
    expect(pids.filter(isRunning)).toEqual([]);
  });

  it('ends a command that is not its own any more, and says nothing of it', async () => {
    const { control, agent } = await started();
    control.command({ commandId: 'c1', argv: ['sh', '-c', 'echo $$; sleep 0.3; echo more; sleep 60'] });
    const pid = await until('its process', () => Number(control.text('c1').trim()) || undefined);
    control.onOutput = () => 'fenced';
    await until('its end', () => !isRunning(pid));
    await until('its end known', async () => (await agent.metric('carrierarr_agent_running')) === 0);
    expect(control.results('c1')).toEqual([]);
    expect(agent.logs()).toContain('was not ours any more');
  });

  it('makes a program wait whose output nobody takes, within its bounds', async () => {
    const { control, agent } = await started(['--allow-exec', '*', '--spool-bytes', '512KiB']);
    control.onOutput = () => 'unavailable';
    control.command({
      commandId: 'c1',
      argv: ['sh', '-c', 'yes 0123456789012345678901234567890123456789 | head -n 200000'],
    });
    await until('a pause', async () => (await agent.metric('carrierarr_agent_backpressure_pauses_total')) > 0);
    expect(await agent.metric('carrierarr_agent_spool_bytes')).toBeLessThan(2 * 1024 * 1024);
    control.onOutput = () => 'store';
    expect(await control.result('c1')).toMatchObject({ lines: 200_000, exitCode: 0 });
    expect(control.text('c1').length).toBe(200_000 * 41);
  });

  it('only counts output beyond the bound', async () => {
    const { control } = await started();
    control.command({
      commandId: 'c1',
      outputBytesMax: 1000,
      argv: ['sh', '-c', 'for i in $(seq 1 200); do echo 0123456789; done'],
    });
    const result = await control.result('c1');
    expect(result.lines + result.truncatedLines).toBe(200);
    expect(result.truncatedLines).toBeGreaterThan(100);
    expect(control.text('c1').length).toBeLessThan(1200);
  });

  it('ends a command when the control plane was out of reach for too long, and says so later', async () => {
    const { control } = await started();
    control.command({ commandId: 'c1', outageGraceMs: 1500, argv: ['sh', '-c', 'echo $$; sleep 60'] });
    const pid = await until('its process', () => Number(control.text('c1').trim()) || undefined);
    const { port } = control;
    control.stop();
    await until('its end', () => !isRunning(pid));
    const back = await plane({ port });
    expect(await back.result('c1')).toMatchObject({ end: CommandEnd.COMMAND_END_OUT_OF_TOUCH, fence: 1 });
  });

  it('counts a control plane that can store nothing as out of reach, as whoever waits for the command does', async () => {
    const { control } = await started();
    const script = 'echo $$; while sleep 0.05; do echo tick; done';
    control.command({ commandId: 'c1', outageGraceMs: 1500, argv: ['sh', '-c', script] });
    const pid = await until('its process', () => Number(control.text('c1').split('\n')[0]) || undefined);
    let refused = 0;
    control.onOutput = () => {
      refused += 1;
      return 'unavailable';
    };
    await until('its end', () => !isRunning(pid));
    expect(refused).toBeGreaterThan(1);
    control.onOutput = () => 'store';
    expect(await control.result('c1')).toMatchObject({ end: CommandEnd.COMMAND_END_OUT_OF_TOUCH, fence: 1 });
  });

  it('keeps a result until it is confirmed, over restarts', async () => {
    const { control, agent } = await started();
    control.acksResults = false;
    control.command({ commandId: 'c1', argv: ['sh', '-c', 'exit 5'] });
    await control.result('c1');
    await agent.stop();
    const next = await startAgent({ flags: flagsFor(control), stateDir: agent.stateDir });
    control.acksResults = true;
    await until('the result again', () => control.results('c1').length === 2);
    expect(control.results('c1')[1]).toMatchObject({ exitCode: 5, end: CommandEnd.COMMAND_END_EXITED });
    await until('confirmed', async () => (await next.metric('carrierarr_agent_undelivered_results')) === 0);
  });

  it('knows nothing of what never came here', async () => {
    const { control } = await started();
    control.send({ $case: 'cancel', value: { commandId: 'x', fence: 3, reason: CancelReason.CANCEL_REASON_KILL } });
    expect(await control.result('x')).toMatchObject({ end: CommandEnd.COMMAND_END_LOST, fence: 3 });
  });

  it('drains, and says so at once and after a restart', async () => {
    const { control, agent } = await started();
    control.command({ commandId: 'c1', type: CommandType.COMMAND_TYPE_DRAIN });
    expect(await control.result('c1')).toMatchObject({ success: true });
    await until('a draining status', () => control.statuses().at(-1)?.draining);
    expect(control.statuses().at(-1)?.health).toBe(HealthState.HEALTH_STATE_DEGRADED);
    await agent.stop();
    await startAgent({ flags: flagsFor(control), stateDir: agent.stateDir });
    await control.connected(2);
    expect(control.statuses().at(-1)?.draining).toBe(true);
  });

  it('shuts down and reboots by the commands it is given, or only ends itself', async () => {
    const { control, agent } = await started(['--shutdown-command', 'echo powering off', '--reboot-command', 'exit']);
    control.command({ commandId: 'c1', type: CommandType.COMMAND_TYPE_SHUTDOWN });
    expect(await control.result('c1')).toMatchObject({ success: true });
    expect(control.text('c1')).toBe('powering off\n');
    control.command({ commandId: 'c2', type: CommandType.COMMAND_TYPE_REBOOT });
    await control.result('c2');
    expect(agent.exits).toBe(1);
  });

  it('restarts only services that are allowed', async () => {
    const { control } = await started(['--allow-restart-service', 'ollama']);
    control.command({ commandId: 'c1', type: CommandType.COMMAND_TYPE_RESTART_SERVICE, args: { service: 'sshd' } });
    const refused = await control.result('c1');
    expect(refused).toMatchObject({ end: CommandEnd.COMMAND_END_REFUSED });
    expect(refused.error).toContain('Restarting "sshd" is not allowed');
  });

  it.each([
    ['no-such-unit', 'no-such-unit.service'],
    ['no-such-unit.service', 'no-such-unit'],
  ])('allows to restart %s by the name of %s, too', async (allowed, service) => {
    const { control } = await started(['--allow-restart-service', allowed]);
    control.command({ commandId: 'c1', type: CommandType.COMMAND_TYPE_RESTART_SERVICE, args: { service } });
    expect((await control.result('c1')).error).not.toContain('is not allowed');
  });

  it('takes new intervals and a new idle shutdown, but not from an update about intervals only', async () => {
    const { control, agent } = await started();
    control.send({
      $case: 'config',
      value: { heartbeatIntervalSec: 1, statusIntervalSec: 1, idleShutdownMinutes: 0, onlyIntervals: true },
    });
    await until('statuses', () => control.statuses().length >= 3);
    await until('heartbeats', () => control.heartbeats.length >= 2);
    expect(agent.logs()).not.toContain('told when to power off');
    control.command({
      commandId: 'c1',
      type: CommandType.COMMAND_TYPE_UPDATE_CONFIG,
      args: { idle_shutdown_minutes: '45' },
    });
    expect(await control.result('c1')).toMatchObject({ success: true });
    expect(agent.logs()).toContain('"afterMs":2700000');
    control.command({ commandId: 'c2', type: CommandType.COMMAND_TYPE_UPDATE_CONFIG, args: { idle: '45' } });
    expect((await control.result('c2')).error).toContain('got "idle"');
  });
});

describe('results that wait', () => {
  it('are sent some at a time, oldest first, until all are confirmed', async () => {
    const stateDir = temporaryFolder('agent-');
    const journal = new Journal({
      ...{ folder: stateDir, hold: () => Promise.resolve(), resultsMax: 200, resultBytesMax: 1e7 },
      onDropped: () => undefined,
    });
    await journal.open();
    const ids = Array.from({ length: 120 }, (_, i) => `c${i}`);
    await Promise.all(ids.flatMap((id) => [journal.see(id, 1, 1), journal.end({ ...emptyResult(id, 1), end: 1 })]));
    await journal.close();
    const control = await plane();
    const agent = await startAgent({ flags: flagsFor(control), stateDir });
    await until('the first', () => control.results().length > 0);
    expect(control.results().length).toBeLessThanOrEqual(50);
    await until('all', async () => (await agent.metric('carrierarr_agent_undelivered_results')) === 0);
    expect(control.results().map(({ commandId }) => commandId)).toEqual(ids);
  });
});
