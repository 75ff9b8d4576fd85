import { runSchema, splitRunArguments } from '@carrierarr/cli';
import { describe, expect, it } from 'vitest';

const split = (line: string) => splitRunArguments(line.split(' '), runSchema);

describe('the words of `carrierarr run`', () => {
  it('are ours before the target and before the command', () => {
    expect(split('--wait w1 --timeout 10m start a b')).toEqual({
      flags: ['--wait', '--timeout', '10m'],
      positionals: ['w1', 'start', 'a', 'b'],
    });
    expect(split('--timeout=10m -o json w1 start')).toEqual({
      flags: ['--timeout=10m', '-o', 'json'],
      positionals: ['w1', 'start'],
    });
  });

  it('are the script’s after the command, also with a dash', () => {
    expect(split('w1 train -f --epochs 3 -o x --help').positionals).toEqual([
      'w1',
      'train',
      '-f',
      '--epochs',
      '3',
      '-o',
      'x',
      '--help',
    ]);
  });

  it('include a --wait at the end, unless `--` gives it to the script', () => {
    expect(split('w1 error --wait')).toEqual({ flags: ['--wait'], positionals: ['w1', 'error'] });
    expect(split('w1 error -- --wait')).toEqual({ flags: [], positionals: ['w1', 'error', '--wait'] });
    expect(split('-- w1 error --wait')).toEqual({ flags: [], positionals: ['w1', 'error', '--wait'] });
  });

  it('refuse another flag of ours after the command, because it could be meant for either', () => {
    expect(() => split('w1 train --timeout 10m')).toThrow(
      /`--timeout` after the command could be carrierarr's or the script's/,
    );
    expect(() => split('w1 train --token=x')).toThrow(/`--token` after/);
    expect(split('w1 train -- --timeout 10m').positionals).toEqual(['w1', 'train', '--timeout', '10m']);
  });

  it('keep a later `--` for the script', () => {
    expect(split('w1 exec -- ls -- -x').positionals).toEqual(['w1', 'exec', 'ls', '--', '-x']);
  });
});
