#!/usr/bin/env node
/** The `carrierarr-agent` command. */
import { ConfigError, version } from '@carrierarr/platform';
import { runAgent } from './program.js';

const SUMMARY = 'The agent: announces this machine, says how it is, and carries out commands here.';
const WRONG_USE = 2;
const FAILED = 125;

async function main(): Promise<number> {
  const argv = process.argv.slice(2);
  if (argv[0] === 'version' || argv[0] === '--version' || argv[0] === '-version') {
    process.stdout.write(`carrierarr-agent ${version()}\n`);
    return 0;
  }
  try {
    return await runAgent({ program: 'carrierarr-agent', summary: SUMMARY, argv, host: process });
  } catch (error) {
    if (error instanceof ConfigError) {
      process.stderr.write(`${error.message}\n`);
      return WRONG_USE;
    }
    process.stderr.write(`carrierarr-agent: a defect: ${String((error as Error)?.stack ?? error)}\n`);
    return FAILED;
  }
}

const exitCode = await main();
process.stdout.write('', () => process.stderr.write('', () => process.exit(exitCode)));
