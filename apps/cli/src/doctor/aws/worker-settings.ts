/** What a control script of ours is told (`EC2_WORKER_...`, `FARGATE_WORKER_...`): variables, and those of the file of bash that one of them names. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

export type WorkerSettings = Readonly<Record<string, string>>;

const NAME = /^(EC2_WORKER|FARGATE_WORKER)_\w+$|^AWS_(REGION|DEFAULT_REGION|PROFILE)$/;
const OUTPUT_BYTES_MAX = 1024 * 1024;
/** As the scripts read it: a file without a slash is one in the current directory. Prints what it leaves, and nothing that it says. */
const READ = 'file=$1; case $file in */*) ;; *) file=./$file ;; esac; set -a; . "$file" >&2 || exit 1; env -0';

/**
 * Those of one script: what `PREFIX_CONFIG` names wins over the environment, as it does there. Throws if that file cannot be read. It is run as
 * the script runs it, for at most this long.
 */
export async function workerSettings(
  env: NodeJS.ProcessEnv,
  prefix: 'EC2_WORKER' | 'FARGATE_WORKER',
  timeoutMs: number,
): Promise<WorkerSettings> {
  const file = env[`${prefix}_CONFIG`];
  if (file === undefined || file === '') return only(Object.entries(env));
  try {
    const limits = { env, timeout: timeoutMs, maxBuffer: OUTPUT_BYTES_MAX, killSignal: 'SIGKILL' } as const;
    const { stdout } = await promisify(execFile)('bash', ['-c', READ, 'doctor', file], limits);
    return only(stdout.split('\0').map((line) => [line.split('=', 1)[0] ?? '', line.slice(line.indexOf('=') + 1)]));
  } catch (cause) {
    throw new Error(`${prefix}_CONFIG names ${file}, which cannot be read, or fails`, { cause });
  }
}

function only(entries: readonly (readonly [string, string | undefined])[]): WorkerSettings {
  return Object.fromEntries(
    entries.flatMap(([name, value]) => (NAME.test(name) && value !== undefined && value !== '' ? [[name, value]] : [])),
  );
}

/** Whether anything is said to a script of this name. */
export const hasSettings = (env: NodeJS.ProcessEnv, prefix: string): boolean =>
  Object.keys(env).some((name) => name.startsWith(`${prefix}_`));

/** Words of a list such as `subnet-1 subnet-2`. */
export const wordsOf = (text = ''): string[] => text.split(/\s+/).filter((word) => word !== '');

/** Tags as the scripts give them: whose it is, its name, and those of `PREFIX_TAGS`, one `Key=Value` a line. */
export function tagsOf(settings: WorkerSettings, prefix: string, target: string): (readonly [string, string])[] {
  const lines = (settings[`${prefix}_TAGS`] ?? '').split('\n').map((line) => line.trim());
  return [
    ['carrierarr:target', target],
    ['carrierarr:managed', settings[`${prefix}_INSTALLATION`] ?? 'true'],
    ['Name', target],
    ...lines.flatMap((line) =>
      line.includes('=') ? [[line.split('=', 1)[0] ?? '', line.slice(line.indexOf('=') + 1)] as const] : [],
    ),
  ];
}
