import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { execOf } from '../../../apps/agent/src/commands/allow.js';
import { findProgram } from '../../../apps/agent/src/commands/find-program.js';
import { PullProgress } from '../../../apps/agent/src/commands/models.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

describe('exec', () => {
  it.each([
    ['is off without a list', { argv: ['uname'], cmd: undefined }, [], undefined],
    ['runs what is on the list', { argv: ['uname', '-a'], cmd: 'ignored' }, ['uname'], ['uname', '-a']],
    ['runs anything with *', { argv: ['/opt/x'], cmd: undefined }, ['*'], ['/opt/x']],
    ['takes a name for no path', { argv: ['/usr/bin/uname'], cmd: undefined }, ['uname'], undefined],
    ['takes a path for no name', { argv: ['uname'], cmd: undefined }, ['/usr/bin/uname'], undefined],
    ['splits a line of plain words', { argv: [], cmd: ' uname  -a ' }, ['uname'], ['uname', '-a']],
    ['does not split what a shell would read otherwise', { argv: [], cmd: 'uname; rm -rf /' }, ['uname'], undefined],
    ['nor what sets a variable', { argv: [], cmd: 'A=1 uname' }, ['uname', 'A=1'], undefined],
    ['gives a line to a shell that is allowed', { argv: [], cmd: 'uname; id' }, ['sh'], ['sh', '-c', 'uname; id']],
    ['gives a line to a shell with *', { argv: [], cmd: 'uname -a' }, ['*'], ['sh', '-c', 'uname -a']],
    ['needs something to run', { argv: [], cmd: undefined }, ['*'], undefined],
    ['needs a program', { argv: ['', 'x'], cmd: undefined }, ['*'], undefined],
  ])('%s', (_what, request, allowed, argv) => {
    const answer = execOf(request, allowed);
    expect(answer.ok ? answer.argv : undefined).toEqual(argv);
  });
});

describe('a program', () => {
  it('is found in PATH as a shell finds it, but never by a relative path', async () => {
    const folder = temporaryFolder('agent-');
    const [one, two] = [join(folder, 'one'), join(folder, 'two')];
    await mkdir(join(one, 'tool'), { recursive: true });
    await mkdir(two);
    await writeFile(join(two, 'tool'), '#!/bin/sh\n');
    expect(await findProgram('tool', `${one}:${two}`)).toBeUndefined();
    await chmod(join(two, 'tool'), 0o755);
    expect(await findProgram('tool', `:.:${one}:${two}`)).toBe(join(two, 'tool'));
    expect(await findProgram('/any/where')).toBe('/any/where');
    expect(await findProgram('./tool', two)).toBeUndefined();
    expect(await findProgram('sh')).toMatch(/\/sh$/);
  });
});

describe('the progress of a pull', () => {
  it('is a line for each step and each few percent', () => {
    const progress = new PullProgress();
    const said = [
      { status: 'pulling manifest' },
      { status: 'pulling manifest' },
      ...Array.from({ length: 101 }, (_, i) => ({ status: 'pulling abc', total: 1000, completed: i * 10 })),
      { status: 'verifying sha256 digest' },
      { status: 'success' },
      {},
    ].flatMap((message) => progress.read(message));
    expect(said.slice(0, 3)).toEqual(['pulling manifest', 'pulling abc 0 %', 'pulling abc 5 %']);
    expect(said.slice(-3)).toEqual(['pulling abc 100 %', 'verifying sha256 digest', 'success']);
    expect(said).toHaveLength(24);
  });
});
