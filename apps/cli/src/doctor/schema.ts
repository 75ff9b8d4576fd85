/** Settings of `carrierarr doctor`: where the others are, in the words in which the others are told. */
import { gatewaySchema } from '@carrierarr/gateway/config';
import { monitorSchema } from '@carrierarr/monitor/config';
import {
  type ConfigKey,
  type ConfigSchema,
  type ConfigValues,
  defineSchema,
  type Format,
  formats,
  redisSchema,
} from '@carrierarr/platform/light';
import { runnerSchema } from '@carrierarr/runner/config';
import { clientSchema } from '../client/settings.js';

const { ec2Tags, ec2Regions, ec2StatusInterval, ecsCluster, ecsRegions, eventsQueueUrl } = monitorSchema;
const { rabbitmqUrl, rabbitmqVhost } = monitorSchema;

export const doctorSchema = defineSchema({
  ...clientSchema,
  url: {
    ...clientSchema.url,
    doc: 'The gateway, as clients reach it: through the ingress. When nothing else is named either, http://127.0.0.1:8090.',
    default: null,
  },
  idleSeconds: {
    doc: 'How long to keep a WebSocket open without saying anything, to see whether a proxy cuts it. More than 60 finds the usual limits; 0 for not at all.',
    format: formats.intBetween(0, 7_200),
    default: 5,
    env: null,
  },
  awsControl: {
    doc: "Also ask AWS whether this identity may do what a runner's must: start, stop and terminate the watched instances, and make instances or tasks as EC2_WORKER_... and FARGATE_WORKER_... say. By dry run, or by asking IAM.",
    format: formats.boolean,
    default: false,
    env: null,
  },
  timeout: {
    doc: 'How long one check may take.',
    format: formats.durationBetween(100, 300_000),
    default: '10s',
    env: null,
  },
  ...redisSchema,
  redisUrl: { ...redisSchema.redisUrl, default: null },
  ...{ rabbitmqUrl, rabbitmqVhost, ec2Tags, ec2Regions, ec2StatusInterval, ecsCluster, ecsRegions, eventsQueueUrl },
});

/**
 * Everything that any server is told, so that `carrierarr doctor` reads the file and takes the flags of whichever
 * program it is to look after. What it has no use for it only checks for sense.
 */
export const knownSchema: ConfigSchema & typeof doctorSchema = {
  ...together(runnerSchema, monitorSchema, gatewaySchema),
  ...doctorSchema,
};

/** Where programs give one name bounds of their own (a runner may stop for days, a gateway may not), what any of them takes. */
function together(...schemas: readonly ConfigSchema[]): ConfigSchema {
  const all: Record<string, ConfigKey> = {};
  for (const [key, entry] of schemas.flatMap((schema) => Object.entries(schema))) {
    const other = all[key];
    const differs = other !== undefined && String(other.format) !== String(entry.format);
    all[key] = differs
      ? { ...entry, format: formats.either(other.format as Format<unknown>, entry.format as Format<unknown>) }
      : entry;
  }
  return all;
}

export type DoctorConfig = ConfigValues<typeof doctorSchema>;
