import { defineConfig } from 'vitest/config';

// Unit and integration tests import the sources (condition "source"); scenarios start the built programs.
const resolve = { conditions: ['source'] };
const ssr = { resolve: { conditions: ['source', 'node', 'default'] } };

/** Scenarios that fill a small machine, or hold a program to a time. The others mostly wait, for leases and restarts. */
const ALONE = ['delivery', 'holes', 'hostile-messages', 'kill', 'large-output', 'rolling-restart', 'slow-client'].map(
  (name) => `test/scenarios/${name}.test.ts`,
);
const scenarioTimeouts = { testTimeout: 120_000, hookTimeout: 60_000 };

export default defineConfig({
  test: {
    reporters: ['default', './test/support/summary-reporter.ts'],
    projects: [
      {
        resolve,
        ssr,
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/scenarios/**'],
          testTimeout: 20_000,
          hookTimeout: 30_000,
          // Most of them wait for something: by itself vitest leaves one of two cores alone.
          maxWorkers: 3,
          // Loading the programs anew for each file would cost more than all of the tests do.
          isolate: false,
        },
      },
      {
        resolve,
        ssr,
        test: {
          name: 'scenarios',
          include: ['test/scenarios/**/*.test.ts'],
          exclude: ALONE,
          ...scenarioTimeouts,
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
      {
        resolve,
        ssr,
        test: {
          name: 'scenarios-alone',
          include: ALONE,
          ...scenarioTimeouts,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
