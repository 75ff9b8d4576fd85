/**
 * Running a control script for AWS: against moto, and past a recording stand-in for `aws` that may fail or lie where
 * the test says so and else hands on to the real CLI.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { temporaryFolder } from '../support/temporary-folder.js';

export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs `scripts/<name>` with exactly this environment. */
export function runScript(name: string, args: readonly string[], env: Record<string, string>): Promise<Ran> {
  const path = fileURLToPath(new URL(`../../scripts/${name}`, import.meta.url));
  return new Promise((resolve) => {
    // In an empty folder: a config.sh that lies about must not take part.
    const cwd = mkdtempSync(join(tmpdir(), 'aws-script-'));
    const options = { env, cwd, maxBuffer: 16 * 1024 * 1024 };
    execFile('bash', [path, ...args], options, (error, stdout, stderr) => {
      rmSync(cwd, { recursive: true, force: true });
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr });
    });
  });
}

/** The last line of a status, which is JSON. */
export function lastLine({ stdout }: Ran): Record<string, unknown> {
  return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Record<string, unknown>;
}

/** A command token as the runner makes them: 64 hexadecimal digits. */
export const tokenOf = (text: string): string => createHash('sha256').update(text).digest('hex');

export interface StubbedAws {
  /** PATH with the stub in front. */
  path: string;
  /** Arguments of each call so far. */
  calls(): string[][];
  /** Calls of one operation, as in `run-instances`. */
  callsOf(operation: string): string[][];
}

/**
 * A stand-in for `aws` that writes down each call and then runs `rule`, lines of bash that see the arguments as `$@`
 * and may answer and exit. What they let pass goes to the `aws` on `path`, or exits with 0 when there is none.
 */
export function stubAws(rule: string, path: string): StubbedAws {
  const folder = temporaryFolder('aws-stub-');
  const log = join(folder, 'calls');
  const real = path
    .split(delimiter)
    .map((place) => join(place, 'aws'))
    .find((file) => existsSync(file));
  mkdirSync(join(folder, 'bin'));
  const stub = join(folder, 'bin', 'aws');
  const lines = [
    ...['#!/usr/bin/env bash', `state='${folder}'`],
    // Arguments hold line breaks: they end with a unit separator, calls with a record separator.
    `{ printf '%s\\037' "$@"; printf '\\036'; } >>'${log}'`,
    `real() { ${real === undefined ? ':' : `'${real}' "$@"`}; }`,
    `refuse() { printf '\\nAn error occurred (%s) when calling the %s operation: %s\\n' "$1" "$2" "$3" >&2; exit 254; }`,
    ...[rule, 'real "$@"', ''],
  ];
  writeFileSync(stub, lines.join('\n'));
  chmodSync(stub, 0o755);
  const calls = () => {
    const text = existsSync(log) ? readFileSync(log, 'utf8') : '';
    return text
      .split('\u001E')
      .slice(0, -1)
      .map((call) => call.split('\u001F').slice(0, -1));
  };
  return {
    path: `${join(folder, 'bin')}${delimiter}${path}`,
    calls,
    callsOf: (operation) => calls().filter((call) => call[1] === operation),
  };
}

/** The value after an option of a call. */
export function option(call: readonly string[] | undefined, name: string): string | undefined {
  const at = call?.indexOf(name) ?? -1;
  return at < 0 ? undefined : call?.[at + 1];
}

/** Names that do harm to whoever takes them for anything but text. */
export const HOSTILE_TARGETS = [
  ...['a b', '-rf', '--query', '*', '?', '$(touch /tmp/carrierarr-hostile)', '`id`', "it's", 'say "hi"', 'back\\slash'],
  ...['file:///etc/passwd', 'http://127.0.0.1:1/', 'a,b=c', '[x]', 'grün 🚀', 'x;y|z&', '${HOME}', 'Name=x,Values=y'],
];
