#!/usr/bin/env node
/** The `carrierarr` command. The only place that touches the process. */
import { basename, relative } from 'node:path';
import { runCommandLine } from './command-line.js';
import { EXIT } from './exit.js';
import type { Host } from './host.js';

const host: Host = {
  env: process.env,
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  command: commandName(process.argv[1] ?? ''),
  on: process.on.bind(process) as Host['on'],
  off: process.off.bind(process) as Host['off'],
};

function commandName(path: string): string {
  return basename(path) === 'carrierarr' ? 'carrierarr' : `node ${relative(process.cwd(), path) || path}`;
}

for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    // `carrierarr logs -f w1 | head`: the reader has what it wanted.
    process.exit(error.code === 'EPIPE' ? EXIT.brokenPipe : EXIT.ours);
  });
}

const exitCode = await runCommandLine(process.argv.slice(2), host);
// Sockets that are still closing must not keep us; what is written must get out.
process.stdout.write('', () => process.stderr.write('', () => process.exit(exitCode)));
