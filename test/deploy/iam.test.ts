/** The policies of `deploy/iam` allow what the scripts and the monitor call, and nothing else. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

interface Statement {
  Sid: string;
  Effect: string;
  Action: string | string[];
  Resource: string | string[];
  Condition?: Record<string, Record<string, string | string[]>>;
}

const root = fileURLToPath(new URL('../../', import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const statements = (policy: string): Statement[] =>
  (JSON.parse(read(`deploy/iam/${policy}.json`)) as { Statement: Statement[] }).Statement;
const allowed = (...policies: string[]): string[] =>
  [...new Set(policies.flatMap(statements).flatMap(({ Action }) => Action))].toSorted();

/** What AWS asks for beside the operation itself. */
const IMPLIED: Record<string, string[]> = {
  // Tags and roles are part of the request.
  'ec2:RunInstances': ['ec2:CreateTags', 'iam:PassRole'],
  'ec2:CreateVolume': ['ec2:CreateTags'],
  'ecs:RunTask': ['ecs:TagResource', 'iam:PassRole'],
};

/** The actions of `cloud SERVICE OPERATION` in a script, as in `ec2:RunInstances`. */
function actionsOf(script: string): string[] {
  const calls = [...read(script).matchAll(/\bcloud ([a-z0-9]+) ([a-z][a-z-]+)/g)];
  const pascal = (name: string) => name.replace(/(?:^|-)([a-z])/g, (_, letter: string) => letter.toUpperCase());
  const actions = calls.map((call) => `${call[1]}:${pascal(call[2] ?? '')}`);
  return actions.flatMap((action) => [action, ...(IMPLIED[action] ?? [])]);
}
const unique = (actions: string[]): string[] => [...new Set(actions)].toSorted();

describe('the policy of a runner allows exactly what its script calls', () => {
  test('ec2-worker.sh', () => {
    expect(actionsOf('scripts/ec2-worker.sh')).toContain('ec2:RunInstances');
    expect(allowed('runner-ec2')).toEqual(unique(actionsOf('scripts/ec2-worker.sh')));
  });

  test('llm-worker.sh, with the policy of ec2-worker.sh, which it runs', () => {
    const calls = [...actionsOf('scripts/llm-worker.sh'), ...actionsOf('scripts/ec2-worker.sh')];
    expect(allowed('runner-llm')).toEqual(unique(actionsOf('scripts/llm-worker.sh')));
    expect(allowed('runner-llm', 'runner-ec2')).toEqual(unique(calls));
  });

  test('fargate-worker.sh', () => {
    expect(actionsOf('scripts/fargate-worker.sh')).toContain('ecs:RunTask');
    expect(allowed('runner-fargate')).toEqual(unique(actionsOf('scripts/fargate-worker.sh')));
  });

  test('no script calls the CLI but by "cloud"', () => {
    for (const script of ['ec2-worker.sh', 'fargate-worker.sh', 'llm-worker.sh']) {
      const code = read(`scripts/${script}`).replaceAll(/^\s*#.*$/gm, '');
      // What messages tell a reader to run is no call.
      const lines = code.split('\n').filter((line) => !/^\s*(say|warn|die)\b|\|\| die|warn '/.test(line));
      expect(lines.filter((line) => /\baws (ec2|ecs|ssm|logs|iam)\b/.test(line))).toEqual([]);
    }
  });
});

describe('what a runner may change', () => {
  const READS = /^(ec2:Describe|ecs:(List|Describe)|ssm:Get|logs:Get)/;
  const policies = ['runner-ec2', 'runner-llm', 'runner-fargate'];
  const changing = policies.flatMap((policy) =>
    statements(policy)
      .filter(({ Action }) => [Action].flat().some((action) => !READS.test(action)))
      .map((statement) => ({ policy, ...statement })),
  );

  test.each(changing)('$policy $Sid is bound to a condition', ({ Sid, Condition }) => {
    const keys = Object.values(Condition ?? {}).flatMap((tests) => Object.keys(tests));
    const ours = /^(aws:(Request|Resource)Tag\/carrierarr:managed|(ec2|ecs):CreateAction|iam:PassedToService)$/;
    // What an instance is made out of exists already and cannot carry our tag.
    expect(keys.some((key) => ours.test(key)) || Sid === 'MakeInstancesOutOfThese').toBe(true);
  });

  test('instances and volumes are made only with IMDSv2 and encryption', () => {
    const conditions = (kind: string) =>
      JSON.stringify(
        statements('runner-ec2').filter(
          ({ Action, Resource }) => Action === 'ec2:RunInstances' && Resource === `arn:aws:ec2:*:*:${kind}/*`,
        ),
      );
    expect(conditions('instance')).toContain('"ec2:MetadataHttpTokens":"required"');
    expect(conditions('volume')).toContain('"ec2:Encrypted":"true"');
  });
});

describe('the policy of the monitor', () => {
  test('reads, but for taking events off its queue', () => {
    const changes = allowed('monitor').filter((action) => !/:(Describe|List|Get|Receive)/.test(action));
    expect(changes).toEqual(['sqs:DeleteMessage']);
  });

  test('allows exactly what its clients send', () => {
    const folder = join(root, 'apps/monitor/src');
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
    const sent = files.flatMap((name) => {
      const imports = /import \{([^}]*)\} from '@aws-sdk\/client-(\w+)'/g;
      return [...readFileSync(join(folder, name), 'utf8').matchAll(imports)].flatMap(([, names = '', service]) =>
        [...names.matchAll(/\b(\w+)Command\b/g)].map((match) => `${service}:${match[1]}`),
      );
    });
    // A batch needs the right to do one.
    expect(allowed('monitor')).toEqual(unique(sent.map((action) => action.replace(/MessageBatch$/, 'Message'))));
  });
});

test('each policy is in the table of the README', () => {
  const files = readdirSync(join(root, 'deploy/iam')).filter((name) => name.endsWith('.json'));
  expect(files.filter((name) => !read('deploy/iam/README.md').includes(`| \`${name}\``))).toEqual([]);
});
