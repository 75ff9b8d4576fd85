/** The page of a gateway shows workers, and their state changing, by what old clients are sent. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { createGateway, gatewaySchema } from '@carrierarr/gateway';
import { createLogger, createMetrics, loadConfig, Readiness, redisSettings, systemClock } from '@carrierarr/platform';
import { Keys } from '@carrierarr/protocol';
import { defineScripts } from '@carrierarr/store';
import { chromium } from 'playwright-core';
import { expect, onTestFinished, test } from 'vitest';
import { startRedis } from '../../support/redis.js';
import { TestMonitor, workerRecord } from './monitor.js';

const PAGE = fileURLToPath(new URL('../../../examples/test-client.html', import.meta.url));

function browserPath(): string {
  for (const name of ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']) {
    const { status, stdout } = spawnSync('which', [name], { encoding: 'utf8' });
    if (status === 0) return stdout.trim();
  }
  throw new Error('Expected Chromium or Google Chrome on PATH. `bash scripts/setup.sh test` installs it.');
}

test('the page shows a worker, what it was before, and what its target is; hostile names stay text', async () => {
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const connection = redis.client();
  defineScripts(connection);
  const monitor = new TestMonitor(connection, new Keys('carrierarr'));
  const argv = [
    '-addr',
    '127.0.0.1:0',
    '--redis-url',
    redis.url,
    '--page',
    PAGE,
    '--drain-delay',
    '0s',
    '--drain-spread',
    '0s',
  ];
  const loaded = loadConfig({ program: 'carrierarr gateway', summary: '', schema: gatewaySchema, argv, env: {} });
  if (loaded.kind !== 'config') throw new Error(loaded.kind);
  const gateway = createGateway({
    ...{ config: loaded.values, redisSettings: redisSettings(loaded.values), readiness: new Readiness() },
    ...{ logger: createLogger({ program: 'test', level: 'silent', format: 'json' }), clock: systemClock },
    metrics: createMetrics({ program: 'test', version: '0', hasProcessMetrics: false }),
  });
  await gateway.start();
  onTestFinished(() => gateway.stop());
  const browser = await chromium.launch({
    executablePath: browserPath(),
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
  });
  onTestFinished(() => browser.close());
  const page = await browser.newPage();
  const problems: string[] = [];
  page.on('pageerror', (error) => problems.push(String(error)));
  page.on('dialog', (dialog) => {
    problems.push(dialog.message());
    void dialog.dismiss();
  });

  await monitor.publish({
    upserts: [
      workerRecord('i-1', { name: 'gpu', target: 'gpu-target', state: 'pending' }),
      workerRecord('i-2', { name: '<img src=x onerror=alert(1)>', state: '\u001b[31m\u202e', reason: '<b>' }),
    ],
  });
  await page.goto(`http://127.0.0.1:${gateway.address.port}/`);
  await page.click('#connect');
  const row = page.locator('tr[data-worker="i-1"]');
  await row.locator('.badge:has-text("pending")').waitFor();
  expect(await row.locator('.was').count()).toBe(0);
  await monitor.publish({ upserts: [workerRecord('i-1', { name: 'gpu', target: 'gpu-target', state: 'running' })] });
  await row.locator('.badge.up:has-text("running")').waitFor();
  expect(await row.locator('.was').textContent()).toBe('was pending');
  expect(await page.textContent('#workers-note')).toMatch(/^2 known · 1 changed at \d\d:/);
  await row.locator('button').click();
  expect(await page.inputValue('#target')).toBe('gpu-target');
  await monitor.publish({ removed: ['i-1'] });
  await row.waitFor({ state: 'detached' });
  expect(await page.textContent('tr[data-worker="i-2"]')).toContain('<img src=x onerror=alert(1)>');
  expect(problems).toEqual([]);
}, 60_000);
