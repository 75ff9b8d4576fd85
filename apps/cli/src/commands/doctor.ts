/** `carrierarr doctor`: looks at everything an installation rests on, and says of each finding what to do. Changes nothing. */
import { existsSync } from 'node:fs';
import { loadConfig, redisSchema, redisSettings, systemClock, version } from '@carrierarr/platform';
import { Keys } from '@carrierarr/protocol';
import { accessSchema, clientConfigPath, type GatewayAccess } from '../client/settings.js';
import { CHECKS } from '../doctor/checks.js';
import { type Means, NO_REDIS, Unseen } from '../doctor/check.js';
import { examine } from '../doctor/examine.js';
import type { Level } from '../doctor/finding.js';
import { maskOf } from '../doctor/mask.js';
import { RedisAccess } from '../doctor/redis/access.js';
import { reportText, summaryText } from '../doctor/report-text.js';
import { type DoctorConfig, doctorSchema, knownSchema } from '../doctor/schema.js';
import { EXIT } from '../exit.js';
import type { Host, Verb } from '../host.js';
import { Output } from '../terminal/output.js';

const PROGRAM = 'carrierarr doctor';
const NOTES = `What is not named is not looked at. The flags, variables and files of the other programs are taken, too, so that it can
be run where they run, told as they are told.

Exit codes: 0 nothing fails; 1 something does; 2 wrong use.
`;

export const doctor: Verb = {
  async run(argv, host, summary) {
    const path = clientConfigPath(host.env);
    const env =
      host.env['CARRIERARR_CONFIG'] || !existsSync(path) ? host.env : { ...host.env, CARRIERARR_CONFIG: path };
    const options = { program: PROGRAM, summary, argv, env, knownEnv: Object.keys(host.env) };
    const loaded = loadConfig({ ...options, schema: knownSchema });
    if (loaded.kind === 'help') {
      const help = loadConfig({ ...options, schema: doctorSchema, argv: ['--help'] });
      host.stdout.write(help.kind === 'help' ? `${help.text}\n${NOTES}` : '');
      return EXIT.done;
    }
    return report(loaded.values, host);
  },
};

async function report(config: DoctorConfig, host: Host): Promise<number> {
  const settings =
    config.redisUrl === null && config.redisNodes.length === 0
      ? null
      : redisSettings({ ...config, redisUrl: config.redisUrl ?? redisSchema.redisUrl.default }, PROGRAM);
  const access = settings === null ? undefined : new RedisAccess(settings, config.timeout);
  const means: Means = {
    config,
    gateway: gatewayFor(config, settings !== null),
    redisSettings: settings,
    keys: new Keys(config.redisKeyPrefix),
    env: host.env,
    version: version(),
    clock: systemClock,
    redis: () => access?.need() ?? Promise.reject(new Unseen(NO_REDIS)),
  };
  const { redisUrl, redisPassword, redisSentinelPassword, rabbitmqUrl, token } = config;
  const mask = maskOf([redisPassword, redisSentinelPassword, token], [redisUrl, rabbitmqUrl]);
  const output = new Output(host);
  const levels: Level[] = [];
  try {
    for await (const each of examine(CHECKS, means, mask)) {
      levels.push(each.level);
      if (config.output === 'json') output.json(each);
      else output.text(reportText(each));
    }
  } finally {
    access?.close();
  }
  if (config.output !== 'json') output.text(`\n${summaryText(levels)}\n`);
  return levels.includes('fail') ? EXIT.partly : EXIT.done;
}

/** The one that is named; the usual one when nothing is named at all. */
function gatewayFor({ url, token, ...config }: DoctorConfig, hasRedis: boolean): GatewayAccess | null {
  const isAws = config.ec2Tags !== null || config.ecsCluster.length > 0 || config.awsControl;
  const isAnything = hasRedis || config.rabbitmqUrl !== null || isAws;
  const named = url ?? (isAnything ? null : accessSchema.url.default);
  return named === null ? null : { url: named.replace(/\/+$/, ''), token };
}
