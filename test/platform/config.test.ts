import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  ConfigError,
  configEnvNames,
  configReference,
  defineSchema,
  formats,
  loadConfig,
  logSchema,
  printableConfig,
  redisSchema,
} from '@carrierarr/platform';
import { afterAll, beforeAll, describe, expect, expectTypeOf, it } from 'vitest';

const schema = defineSchema({
  addr: { doc: 'Where to listen.', format: formats.address, default: '127.0.0.1:8090' },
  script: { doc: 'Control script.', format: formats.filePath, default: null, aliases: ['control-script'] },
  poll: { doc: 'Pause between polls.', format: formats.duration, default: '30s' },
  graceMs: {
    doc: 'Grace.',
    format: formats.durationBetween(1_000, 60_000),
    default: '10s',
    arg: 'grace',
    env: 'CARRIERARR_GRACE',
  },
  messageBytesMax: { doc: 'Largest message.', format: formats.byteSize, default: '64KiB' },
  concurrency: { doc: 'Commands at once.', format: formats.intBetween(1, 64), default: 8 },
  autoTerminate: { doc: 'End dead workers.', format: formats.boolean, default: false },
  allowOrigin: { doc: 'Origins.', format: formats.list, default: [] },
  tags: { doc: 'Tags.', format: formats.textMap, default: {}, aliases: ['ec2-tags'] },
  mode: { doc: 'Mode.', format: ['fast', 'safe'], default: 'safe' },
  apiToken: { doc: 'Token.', format: formats.text, default: null, secret: true },
  hookUrl: { doc: 'Hook.', format: formats.httpUrl, default: null },
});

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'config-test-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

let fileCount = 0;
function file(content: string, extension = 'yaml'): string {
  const path = join(folder, `${fileCount++}.${extension}`);
  writeFileSync(path, content);
  return path;
}

interface Sources {
  readonly argv?: string[];
  readonly env?: Record<string, string>;
  readonly knownEnv?: string[];
  readonly positionals?: string;
}

function load({ argv = [], env = {}, ...rest }: Sources = {}) {
  const loaded = loadConfig({ program: 'carrierarr test', summary: 'Tests.', schema, argv, env, ...rest });
  if (loaded.kind !== 'config') throw new Error('expected a configuration');
  return loaded;
}

const values = (...argv: string[]) => load({ argv }).values;

function problemsOf(sources: Sources): string[] {
  try {
    load(sources);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems.map(({ message }) => message);
    throw error;
  }
  return [];
}

/** The only problem. */
function problem(sources: Sources): string {
  const problems = problemsOf(sources);
  expect(problems).toHaveLength(1);
  return problems[0] ?? '';
}

const URL_ALLOWED = 'a URL that starts with http:// or https://, such as https://carrierarr.example';

describe('values', () => {
  it('are the defaults, parsed, when nothing is set', () => {
    expect(values()).toEqual({
      addr: { host: '127.0.0.1', port: 8090 },
      script: null,
      poll: 30_000,
      graceMs: 10_000,
      messageBytesMax: 65_536,
      concurrency: 8,
      autoTerminate: false,
      allowOrigin: [],
      tags: {},
      mode: 'safe',
      apiToken: null,
      hookUrl: null,
    });
  });

  it('have the types of their formats', () => {
    const loaded = values();
    expectTypeOf(loaded.poll).toEqualTypeOf<number>();
    expectTypeOf(loaded.script).toEqualTypeOf<string | null>();
    expectTypeOf(loaded.mode).toEqualTypeOf<'fast' | 'safe'>();
    expectTypeOf(loaded.allowOrigin).toEqualTypeOf<readonly string[]>();
    expectTypeOf(loaded.autoTerminate).toEqualTypeOf<boolean>();
    expectTypeOf(loaded.addr.port).toEqualTypeOf<number>();
  });

  it('come from flags before environment before file before defaults', () => {
    const path = file('poll: 3s\nconcurrency: 3\nmode: fast\n');
    const env = { CARRIERARR_POLL: '2s', CARRIERARR_CONCURRENCY: '2', CARRIERARR_CONFIG: path };
    const loaded = load({ argv: ['--poll', '1s'], env }).values;
    expect(loaded).toMatchObject({ poll: 1_000, concurrency: 2, mode: 'fast', messageBytesMax: 65_536 });
  });

  it('prefers --config to CARRIERARR_CONFIG', () => {
    const env = { CARRIERARR_CONFIG: file('poll: 3s') };
    expect(load({ argv: ['--config', file('poll: 4s')], env }).values.poll).toBe(4_000);
  });

  it('are read from JSON with tabs as well as from YAML', () => {
    const path = file('{\n\t"addr": ":80",\n\t"tags": {"Name": "gpu"},\n\t"allowOrigin": ["a", "b"]\n}', 'json');
    expect(values('--config', path)).toMatchObject({
      addr: { host: '', port: 80 },
      tags: { Name: 'gpu' },
      allowOrigin: ['a', 'b'],
    });
  });

  it('of the file may be numbers and booleans, and an empty key is not set', () => {
    const path = file('concurrency: 4\nautoTerminate: true\nmessageBytesMax: 1024\nscript:\n');
    expect(values('--config', path)).toMatchObject({
      concurrency: 4,
      autoTerminate: true,
      messageBytesMax: 1024,
      script: null,
    });
  });

  it('do not come from empty environment variables', () => {
    expect(load({ env: { CARRIERARR_POLL: '', CARRIERARR_API_TOKEN: '' } }).values.poll).toBe(30_000);
  });

  it('replace a bad value of a weaker source without a complaint', () => {
    expect(load({ argv: ['--poll=5s'], env: { CARRIERARR_POLL: 'soon' } }).values.poll).toBe(5_000);
  });
});

describe('flags', () => {
  it.each([
    ['two dashes and a space', ['--poll', '2m']],
    ['one dash and a space', ['-poll', '2m']],
    ['two dashes and =', ['--poll=2m']],
    ['one dash and =', ['-poll=2m']],
    ['the last of several', ['-poll=1m', '--poll', '2m']],
  ])('may be written with %s', (_, argv) => {
    expect(values(...argv).poll).toBe(120_000);
  });

  it.each([
    [['--auto-terminate'], true],
    [['-auto-terminate=true'], true],
    [['--auto-terminate=false'], false],
    [['--auto-terminate', '--no-auto-terminate'], false],
  ])('%j sets a boolean to %s', (argv, expected) => {
    expect(values(...argv).autoTerminate).toBe(expected);
  });

  it('take no separate word as the value of a boolean, as in Go', () => {
    expect(load({ argv: ['--auto-terminate', 'worker-1'], positionals: 'TARGET' }).positionals).toEqual(['worker-1']);
  });

  it('add up in a list, with commas too', () => {
    expect(values('--allow-origin', 'a,b', '--allow-origin=c').allowOrigin).toEqual(['a', 'b', 'c']);
  });

  it('replace the list of the environment', () => {
    const loaded = load({ argv: ['--allow-origin=c'], env: { CARRIERARR_ALLOW_ORIGIN: 'a,b' } });
    expect(loaded.values.allowOrigin).toEqual(['c']);
  });

  it('have aliases', () => {
    expect(values('-ec2-tags', '{"Name":"gpu"}').tags).toEqual({ Name: 'gpu' });
  });

  it('take a value that begins with a dash when it is no flag', () => {
    expect(values('--script', '-odd').script).toBe('-odd');
  });

  it('may follow positional arguments and end at --', () => {
    const argv = ['worker-1', '--poll', '1s', 'start', '--', '--poll', '-x'];
    const loaded = load({ argv, positionals: 'TARGET COMMAND [ARGS...]' });
    expect(loaded.positionals).toEqual(['worker-1', 'start', '--poll', '-x']);
    expect(loaded.values.poll).toBe(1_000);
  });
});

describe('secrets', () => {
  it.each<[string, () => Sources]>([
    ['the file a flag names', () => ({ argv: ['--api-token-file', file('hunter2\n')] })],
    ['the file a variable names', () => ({ env: { CARRIERARR_API_TOKEN_FILE: file('hunter2\r\n') } })],
    ['the file a key names', () => ({ argv: ['--config', file(`apiTokenFile: ${file('hunter2')}`)] })],
    ['a flag', () => ({ argv: ['--api-token=hunter2'] })],
    ['a variable', () => ({ env: { CARRIERARR_API_TOKEN: 'hunter2' } })],
  ])('are read from %s', (_, sources) => {
    expect(load(sources()).values.apiToken).toBe('hunter2');
  });

  it('keep inner and leading white space of their file', () => {
    expect(values('--api-token-file', file(' two\nlines \n')).apiToken).toBe(' two\nlines ');
  });

  it('must not be given twice in one source', () => {
    expect(problem({ env: { CARRIERARR_API_TOKEN: 'hunter2', CARRIERARR_API_TOKEN_FILE: '/x' } })).toBe(
      'Both CARRIERARR_API_TOKEN (`--api-token`) and CARRIERARR_API_TOKEN_FILE (`--api-token`) are set. Keep one of them.',
    );
  });

  it('are refused with the name of a file that is missing or empty', () => {
    expect(problem({ argv: ['--api-token-file', '/nowhere/token'] })).toBe(
      'The file `/nowhere/token` that `--api-token-file` (CARRIERARR_API_TOKEN) names cannot be read: there is no such file.',
    );
    expect(problem({ argv: ['--api-token-file', file('\n')] })).toContain('names is empty.');
  });

  it('are masked in what is printed, with the passwords of URLs', () => {
    const loaded = values(
      '--api-token=hunter2',
      '--hook-url=https://me:hunter2@x.example/?access_token=hunter2',
      '-poll=90s',
    );
    const printed = printableConfig(loaded, schema);
    expect(printed).toMatchObject({
      apiToken: '***',
      hookUrl: 'https://me:***@x.example/?access_token=***',
      poll: '1m30s',
      addr: '127.0.0.1:8090',
      messageBytesMax: '64KiB',
      script: null,
    });
    expect(JSON.stringify(printed)).not.toContain('hunter2');
  });
});

describe('a bad value', () => {
  it.each([
    ['poll', '30', 'a duration such as 30s, 2m, 1h30m or 500ms'],
    ['poll', '-5s', 'a duration such as 30s, 2m, 1h30m or 500ms'],
    ['grace', '2h', 'a duration such as 30s, 2m, 1h30m or 500ms, from 1s to 1m'],
    ['message-bytes-max', '64KB', 'a size in bytes such as 65536, 64KiB or 16MiB'],
    ['concurrency', '0', 'a whole number from 1 to 64'],
    ['concurrency', '8x', 'a whole number from 1 to 64'],
    ['addr', '8090', 'an address such as 127.0.0.1:8090, [::1]:8090 or, for every interface, :8090'],
    ['auto-terminate', 'maybe', 'true or false'],
    ['tags', '[]', 'a JSON object with text values such as {"Name":"gpu"}'],
    ['tags', '{"a":1}', 'a JSON object with text values such as {"Name":"gpu"}'],
    ['mode', 'quick', 'one of fast, safe'],
    ['hook-url', 'ftp://x', `${URL_ALLOWED} (% itself is written %25)`],
    ['hook-url', 'https://x/100%', `${URL_ALLOWED} (% itself is written %25)`],
  ])('of --%s, %s, is quoted with what is allowed', (flag, value, allowed) => {
    const env = `CARRIERARR_${flag.replaceAll('-', '_').toUpperCase()}`;
    expect(problem({ argv: [`--${flag}=${value}`] })).toBe(
      `Expected \`--${flag}\` (${env}) to be ${allowed}, got \`${value}\`.`,
    );
  });

  it('names the flag as it was typed', () => {
    expect(problem({ argv: ['-control-script='] })).toBe(
      'Expected `-control-script` (CARRIERARR_SCRIPT) to be the path of a file, got an empty value.',
    );
  });

  it('from the environment names the variable first', () => {
    expect(problem({ env: { CARRIERARR_POLL: '30' } })).toBe(
      'Expected CARRIERARR_POLL (`--poll`) to be a duration such as 30s, 2m, 1h30m or 500ms, got `30`.',
    );
  });

  it('from the file names key, file, flag and variable, and a bare number is no duration there either', () => {
    const path = file('poll: 30\n');
    expect(problem({ argv: ['--config', path] })).toBe(
      `Expected \`poll\` in ${path} (\`--poll\`, CARRIERARR_POLL) to be a duration such as 30s, 2m, 1h30m or 500ms, got \`30\`.`,
    );
  });

  it('from the file may have the wrong shape', () => {
    expect(problem({ argv: ['--config', file('poll: {a: 1}')] })).toContain('got `{"a":1}`.');
    expect(problem({ argv: ['--config', file('tags: {a: 1}')] })).toContain('got `{"a":1}`.');
    expect(problem({ argv: ['--config', file('mode: [fast]')] })).toContain('got `["fast"]`.');
  });

  it('of a secret is never shown', () => {
    const secretSchema = defineSchema({
      pin: { doc: 'PIN.', format: formats.intBetween(0, 9999), default: null, secret: true, allowed: 'four digits' },
    });
    const attempt = () =>
      loadConfig({ program: 'p', summary: '', schema: secretSchema, argv: ['--pin', 'hunter2'], env: {} });
    expect(attempt).toThrow(
      'Expected `--pin` (CARRIERARR_PIN) to be four digits, got a value that is not shown because it is a secret.',
    );
    expect(attempt).not.toThrow(/hunter2/);
  });

  it('does not show the password of a URL, even of a broken one', () => {
    for (const url of ['ftp://me:hunter2@x', 'https//me:hunter2@x', 'me:hun/ter2@x', 'https://me:hunter2@x:port']) {
      const message = problem({ argv: ['--hook-url', url] });
      expect(message).toContain('***');
      expect(message).not.toContain('ter2');
    }
  });

  it('is cut when long and cannot move the cursor', () => {
    const message = problem({ argv: ['--mode', `\u001b[2J\n${'x'.repeat(500)}`] });
    expect(message).toContain('got `\\x1b[2J\\nxxx');
    expect(message.length).toBeLessThan(350);
  });
});

describe('what is unknown', () => {
  it('is a flag, and the nearest is suggested', () => {
    expect(problem({ argv: ['--adr', ':80'] })).toBe('Unknown flag `--adr`. Did you mean `--addr`?');
    expect(problem({ argv: ['--concurency=3'] })).toBe('Unknown flag `--concurency`. Did you mean `--concurrency`?');
    expect(problem({ argv: ['-scripts'] })).toBe('Unknown flag `-scripts`. Did you mean `--script`?');
    expect(problem({ argv: ['--no-such-thing-at-all'] })).toBe('Unknown flag `--no-such-thing-at-all`. Remove it.');
    expect(problem({ argv: ['--no-poll'] })).toContain('Unknown flag `--no-poll`.');
  });

  it('is a flag whose value may be a secret, so that is not shown', () => {
    expect(problem({ argv: ['--api-tokn', 'hunter2'] })).toBe('Unknown flag `--api-tokn`. Did you mean `--api-token`?');
    expect(problem({ argv: ['--api-tokn=hunter2'] })).toBe('Unknown flag `--api-tokn`. Did you mean `--api-token`?');
  });

  it('is a key of the file', () => {
    const path = file('redis-url: x\nPoll: 3s\n__proto__: 1\n');
    expect(problemsOf({ argv: ['--config', path] })).toEqual([
      `Unknown key \`redis-url\` in the configuration file ${path}. Remove it.`,
      `Unknown key \`Poll\` in the configuration file ${path}. Did you mean \`poll\`?`,
      `Unknown key \`__proto__\` in the configuration file ${path}. Remove it.`,
    ]);
  });

  it('is an environment variable with our prefix, and its value is not shown', () => {
    expect(problem({ env: { CARRIERARR_API_TOKN: 'hunter2', PATH: '/bin' } })).toBe(
      'Unknown environment variable CARRIERARR_API_TOKN. Did you mean `CARRIERARR_API_TOKEN`?',
    );
  });

  it('is no variable of another program, of a script, or of Kubernetes', () => {
    const env = {
      CARRIERARR_REDIS_PASSWORD_FILE: '/x',
      CARRIERARR_EXECUTION_ID: '1',
      CARRIERARR_TARGET: 'worker-1',
      CARRIERARR_FENCE: '3',
      CARRIERARR_GATEWAY_SERVICE_HOST: '10.0.0.1',
      CARRIERARR_GATEWAY_SERVICE_PORT_HTTP: '8090',
      CARRIERARR_GATEWAY_PORT: 'tcp://10.0.0.1:8090',
      CARRIERARR_GATEWAY_PORT_8090_TCP_ADDR: '10.0.0.1',
    };
    expect(problemsOf({ env, knownEnv: configEnvNames(redisSchema) })).toEqual([]);
    expect(problem({ env: { CARRIERARR_GATEWAY_PORT: '8090' } })).toContain('CARRIERARR_GATEWAY_PORT');
  });

  it('is a positional argument where none is taken', () => {
    expect(problem({ argv: ['worker-1'] })).toBe('Unexpected argument `worker-1`; flags begin with `--`.');
  });
});

describe('a flag without its value', () => {
  it('says what value it needs', () => {
    expect(problem({ argv: ['--concurrency'] })).toBe(
      '`--concurrency` needs a value: a whole number from 1 to 64. It was followed by nothing.',
    );
    expect(problem({ argv: ['--script', '--poll', '3s'] })).toBe(
      '`--script` needs a value: the path of a file. It was followed by the flag `--poll`.',
    );
    expect(problem({ argv: ['--no-auto-terminate=false'] })).toBe(
      '`--no-auto-terminate` takes no value; leave out everything from `=`.',
    );
  });
});

describe('a configuration file', () => {
  it('that is missing, no map, or broken is refused without quoting it', () => {
    expect(problem({ argv: ['--config', '/nowhere.yaml'] })).toBe(
      'Cannot read the configuration file /nowhere.yaml (`--config`): there is no such file.',
    );
    const list = file('- a\n');
    expect(problem({ argv: ['--config', list] })).toBe(
      `The configuration file ${list} must be a map of keys to values, such as \`logLevel: info\`.`,
    );
    const broken = file('poll: 3s\napiToken: "hunter2\n');
    const message = problem({ argv: ['--config', broken] });
    expect(message).toContain(`The configuration file ${broken} is not valid YAML or JSON at line `);
    expect(message).not.toContain('hunter2');
    const twice = file('poll: 3s\npoll: 4s\n');
    expect(problem({ argv: ['--config', twice] })).toContain('has a key twice at line 2');
  });

  it('may be empty', () => {
    expect(values('--config', file('')).poll).toBe(30_000);
  });
});

describe('several problems', () => {
  it('are reported together', () => {
    const attempt = () =>
      load({
        argv: ['--poll', '30', '--adr', ':80', '--config', file('mode: quick\nnope: 1')],
        env: { CARRIERARR_CONCURRENCY: 'many', CARRIERARR_POL: '1s' },
      });
    expect(attempt).toThrow(ConfigError);
    let error: unknown;
    try {
      attempt();
    } catch (thrown) {
      error = thrown;
    }
    const { message, problems, program } = error as ConfigError;
    expect(program).toBe('carrierarr test');
    expect(problems.map(({ key }) => key)).toEqual([null, null, null, 'poll', 'concurrency', 'mode']);
    expect(message).toMatch(
      /^carrierarr test cannot start, 6 problems in its configuration:\n {2}- Unknown flag `--adr`/,
    );
    expect(message).toContain('`carrierarr test --help` lists every flag');
  });
});

describe('help', () => {
  const help = (argv: string[]) => {
    const loaded = loadConfig({
      program: 'carrierarr test',
      summary: 'Tests things.',
      schema,
      argv,
      env: { CARRIERARR_X: '1' },
    });
    return loaded.kind === 'help' ? loaded.text : '';
  };

  it.each([['--help'], ['-help'], ['-h']])('is asked for with %s, whatever else is wrong', (flag) => {
    expect(help(['--nonsense', flag])).toMatch(/^Tests things\.\n\nUsage: carrierarr test \[flags\]\n/);
  });

  it('shows every flag with its default, variable and what is allowed', () => {
    const text = help(['--help']);
    expect(text).toContain('  --poll DURATION\n      Pause between polls.\n');
    expect(text).toContain('Default: 30s. Environment: CARRIERARR_POLL.');
    expect(text).toContain('  --tags, --ec2-tags JSON\n');
    expect(text).toContain('  --[no-]auto-terminate\n');
    expect(text).toContain('      Allowed: one of fast, safe.\n      Default: safe. Environment: CARRIERARR_MODE.\n');
    expect(text).toContain('--api-token-file or CARRIERARR_API_TOKEN_FILE');
    expect(Math.max(...text.split('\n').map((line) => line.length))).toBeLessThanOrEqual(130);
  });

  it('has a Markdown twin with a row for every key', () => {
    const markdown = configReference([{ program: 'carrierarr test', summary: 'Tests things.', schema }]);
    expect(markdown).toContain('## `carrierarr test`\n\nTests things.\n');
    const rows = markdown.split('\n').filter((line) => line.startsWith('| `--'));
    expect(rows).toHaveLength(Object.keys(schema).length);
    expect(rows.every((row) => row.replaceAll('\\|', '').split('|').length === 8)).toBe(true);
    expect(markdown).toContain(
      '| `--api-token`, `--api-token-file` | `CARRIERARR_API_TOKEN`, `CARRIERARR_API_TOKEN_FILE` | `apiToken` |',
    );
  });
});

describe('a schema', () => {
  it('tells which variables configure its program', () => {
    expect(configEnvNames(logSchema)).toEqual(['CARRIERARR_CONFIG', 'CARRIERARR_LOG_LEVEL', 'CARRIERARR_LOG_FORMAT']);
    expect(configEnvNames(redisSchema)).toContain('CARRIERARR_REDIS_PASSWORD_FILE');
  });

  it('with a default that is not allowed is a mistake that shows at once', () => {
    const bad = defineSchema({ poll: { doc: '', format: formats.duration, default: '30' } });
    expect(() => loadConfig({ program: 'p', summary: '', schema: bad, argv: [], env: {} })).toThrow(
      'default of "poll"',
    );
    const badValue = defineSchema({ count: { doc: '', format: formats.intBetween(1, 2), default: 3 } });
    expect(() => loadConfig({ program: 'p', summary: '', schema: badValue, argv: [], env: {} })).toThrow(
      'count: must be a whole number from 1 to 2',
    );
  });

  it('with two keys for one flag is a mistake that shows at once', () => {
    const bad = defineSchema({
      one: { doc: '', format: formats.text, default: null },
      two: { doc: '', format: formats.text, default: null, aliases: ['one'] },
    });
    expect(() => loadConfig({ program: 'p', summary: '', schema: bad, argv: [], env: {} })).toThrow('the flag --one');
  });
});
