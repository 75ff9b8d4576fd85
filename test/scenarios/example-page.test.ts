/** The first thing a newcomer sees: `carrierarr up`, and its page in a browser. */
import { spawnSync } from 'node:child_process';
import { type Browser, chromium } from 'playwright-core';
import { expect, onTestFinished, test } from 'vitest';
import { startUp } from '../support/up.js';

const CHROMIUM_FLAGS = [
  ...[
    '--no-sandbox',
    '--disable-gpu',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
];

function browserPath(): string {
  for (const name of ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']) {
    const { status, stdout } = spawnSync('which', [name], { encoding: 'utf8' });
    if (status === 0) return stdout.trim();
  }
  throw new Error('Expected Chromium or Google Chrome on PATH. `bash scripts/setup.sh test` installs it.');
}

async function startBrowser(): Promise<Browser> {
  const browser = await chromium.launch({ executablePath: browserPath(), args: CHROMIUM_FLAGS });
  onTestFinished(() => browser.close());
  return browser;
}

test('the page that `carrierarr up` serves drives `start` on worker-1 and shows its lines as they come', async () => {
  const [up, browser] = await Promise.all([startUp(), startBrowser()]);
  expect(up.output()).toContain(up.url);
  const page = await browser.newPage();
  const problems: string[] = [];
  page.on('pageerror', (error) => problems.push(String(error)));
  await page.goto(up.url);
  expect(await page.inputValue('#url')).toBe(`${up.url.replace('http', 'ws')}/ws`);
  await page.click('#connect');
  await page.waitForSelector('#state[data-state=connected]');
  expect(await page.inputValue('#target')).toBe('worker-1');

  await page.click('[data-command="start"]');
  const line = '#output > [data-target="worker-1"]';
  await page.waitForSelector(`${line}[data-kind="stdout"]:has-text("booting")`);
  // Lines come while the script runs.
  expect(await page.locator(`${line}[data-kind="result"]`).count()).toBe(0);
  await page.waitForSelector(`${line}[data-kind="result"][data-exit-code="0"]`);
  const kinds = await page.locator(line).evaluateAll((all) => all.map((one) => one.getAttribute('data-kind')));
  expect(kinds.at(-1)).toBe('result');
  const texts = await page.locator(`${line}[data-kind="stdout"]`).allTextContents();
  expect(texts.filter((text) => text.includes('pulling image...'))).toHaveLength(5);
  expect(texts.at(-1)).toContain('running');
  expect(await page.locator(`${line}[data-kind="stderr"]`).count()).toBeGreaterThan(0);

  await page.click('[data-command="error"]');
  await page.waitForSelector(`${line}[data-kind="result"][data-exit-code="1"]`);
  await page.click('[data-command="flood"]');
  await page.waitForSelector(`${line}[data-kind="stdout"]:has-text("flood 10000 of 10000")`);
  expect(problems).toEqual([]);
}, 90_000);

test('a page of another site cannot connect to a gateway on this machine', async () => {
  const [up, browser] = await Promise.all([startUp(), startBrowser()]);
  const page = await browser.newPage();
  await page.route('http://evil.example/', (route) =>
    route.fulfill({ contentType: 'text/html', body: '<h1>evil</h1>' }),
  );
  await page.goto('http://evil.example/');
  const outcome = await page.evaluate(
    (url) =>
      new Promise((resolve) => {
        const socket = new WebSocket(url);
        socket.onopen = () => resolve('open');
        socket.onerror = () => resolve('refused');
      }),
    `${up.url.replace('http', 'ws')}/ws`,
  );
  expect(outcome).toBe('refused');
}, 90_000);
