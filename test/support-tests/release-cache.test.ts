import { mkdirSync, readdirSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { releaseName, usedNow } from '../support/release-cache.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const DAY_MS = 24 * 3_600_000;

it('a build is found again by what went into it, and by nothing else', () => {
  const commit = 'c'.repeat(40);
  const linked = { workspace: '/a', lock: '{}' };
  expect(releaseName({ commit, linked })).toBe(releaseName({ commit, linked: { ...linked } }));
  const others = [
    { commit },
    { commit, linked },
    { commit: 'd'.repeat(40), linked },
    { commit, linked: { ...linked, workspace: '/b' } },
    { commit, linked: { ...linked, lock: '{"packages":{}}' } },
  ];
  expect(new Set(others.map(releaseName)).size).toBe(others.length);
});

it('builds that were not used for a week are taken away, and nothing else is', async () => {
  const cache = temporaryFolder('cache-');
  const nowMs = Date.now();
  const days = {
    'release-now': 30,
    'release-used': 6,
    'release-old': 8,
    'release-old-building-x': 8,
    'aws-tools-1': 30,
  };
  for (const [name, ago] of Object.entries(days)) {
    mkdirSync(join(cache, name, 'apps'), { recursive: true });
    const seconds = (nowMs - ago * DAY_MS) / 1_000;
    utimesSync(join(cache, name), seconds, seconds);
  }
  await usedNow(cache, 'release-now', nowMs);
  expect(readdirSync(cache).toSorted()).toEqual(['aws-tools-1', 'release-now', 'release-used']);
  // A week from its last use, not from its build.
  await usedNow(cache, 'release-used', nowMs + 6 * DAY_MS);
  expect(readdirSync(cache).toSorted()).toEqual(['aws-tools-1', 'release-now', 'release-used']);
});
