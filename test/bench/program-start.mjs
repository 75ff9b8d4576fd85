/**
 * What a program's own start takes on this machine, for the benchmark of agents: runs `echo WORD` as an agent does, once for each
 * line on standard input, and writes how many milliseconds passed until its first line was there.
 */
import { createInterface } from 'node:readline';
import { PipeFolder, ProgramRun } from '@carrierarr/execution';
import { systemClock } from '@carrierarr/platform';

const folder = new PipeFolder('bench');
await folder.open();
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
say({ event: 'ready' });
for await (const word of createInterface({ input: process.stdin })) {
  const beganMs = performance.now();
  let ms;
  const run = await ProgramRun.start({
    ...{ script: '/bin/echo', args: [word], env: {}, folder, clock: systemClock },
    onOutput: () => (ms ??= performance.now() - beganMs),
    onOutputEnd: () => {},
  });
  await run.exited;
  await run.finish();
  say({ event: 'started', ms });
}
await folder.close();
