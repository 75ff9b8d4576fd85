import { spawnSync } from 'node:child_process';
import {
  AGENT_VERBS,
  agentCommandOf,
  type AgentVerbName,
  isAgentVerb,
  verbOfType,
  wordsOf,
} from '@carrierarr/protocol';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const made = (verb: AgentVerbName, words: string[]) => {
  const answer = agentCommandOf(verb, words);
  if (!answer.ok) throw new Error(answer.problem);
  return answer.command;
};

describe('agentCommandOf', () => {
  it('gives exec an argv, and old agents a line that a shell takes for the same', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.string({ maxLength: 12 }).filter((s) => !s.includes('\0')),
          { maxLength: 4 },
        ),
        (more) => {
          const argv = ['printf', '%s\\n', ...more];
          const { args } = made('exec', argv);
          const seen = spawnSync('sh', ['-c', args['cmd'] as string], { encoding: 'utf8' }).stdout;
          expect(seen).toBe(spawnSync(argv[0] as string, argv.slice(1), { encoding: 'utf8' }).stdout);
        },
      ),
      { numRuns: 30 },
    );
  });

  it('takes the first argument for what the verb is about, and further ones as name=value', () => {
    expect(made('pull-model', ['llama3:8b', 'insecure=true'])).toEqual({
      type: 'PULL_MODEL',
      args: { model: 'llama3:8b', insecure: 'true' },
    });
    expect(made('update-config', ['status_interval=10s'])).toEqual({
      type: 'UPDATE_CONFIG',
      args: { status_interval: '10s' },
    });
    expect(made('shutdown', [])).toEqual({ type: 'SHUTDOWN', args: {} });
  });

  it('says what is missing or wrong', () => {
    expect(agentCommandOf('exec', ['--'])).toMatchObject({ ok: false, problem: expect.stringContaining('uname -a') });
    expect(agentCommandOf('pull-model', [])).toMatchObject({ ok: false, problem: expect.stringContaining('model') });
    expect(agentCommandOf('drain', ['soon'])).toMatchObject({ ok: false, problem: expect.stringContaining('"soon"') });
  });

  it('is undone by wordsOf', () => {
    for (const verb of Object.keys(AGENT_VERBS) as AgentVerbName[]) {
      const words =
        verb === 'exec' ? ['sh', '-c', 'a | b'] : ['about' in AGENT_VERBS[verb] ? 'x' : '', 'a=1=2'].filter(Boolean);
      expect(wordsOf(verb, made(verb, words).args)).toEqual(words);
      expect(verbOfType(AGENT_VERBS[verb].type)).toBe(verb);
      expect(isAgentVerb(verb)).toBe(true);
    }
    expect(isAgentVerb('toString')).toBe(false);
    expect(verbOfType('NOPE')).toBeUndefined();
  });
});
