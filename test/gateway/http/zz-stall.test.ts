import { request } from 'node:http';
import { once } from 'node:events';
import { it, expect } from 'vitest';
import { startRedis } from '/work/main/test/support/redis.js';
import { startHttpGateway } from '/work/main/test/gateway/http/http-gateway.js';
it('stall', async () => {
  const redis = await startRedis();
  const gw = await startHttpGateway(redis, ['--history-bytes-max', '256MiB']);
  await gw.submit('w1'); const run = await gw.claim('w1');
  await gw.append(run, ['0']);
  const sent = request({ host: '127.0.0.1', port: gw.port, path: `/api/v1/executions/${run.id}/output?follow=true`, agent: false }); sent.end();
  const [response] = await once(sent, 'response');
  response.pause();
  let total = 1;
  const batch = (from) => Array.from({ length: 1000 }, (_, i) => `${from + i} ${'x'.repeat(50)}`);
  while (total < 400_000) { await Promise.all(Array.from({ length: 10 }, (_, i) => gw.append(run, batch(total + i * 1000)))); total += 10_000; }
  const t = Date.now();
  response.on('error', (e) => console.log('error after', Date.now() - t, e.message));
  const secs = Number(process.env.STALL ?? 40);
  await new Promise((r) => setTimeout(r, secs * 1000));
  console.log('stalled', secs, 'watching', gw.watching('w1'));
  let bytes = 0; let lines = 0;
  response.on('data', (c) => { bytes += c.length; for (const b of c) if (b === 10) lines++; });
  await new Promise((r) => setTimeout(r, 4000));
  console.log('read', bytes, lines, 'of', total);
  // quiet for a while, then another line
  await new Promise((r) => setTimeout(r, 15000));
  await gw.append(run, ['late']); await gw.finish(run);
  await new Promise((r) => setTimeout(r, 1000));
  console.log('at the end', lines, total + 1, 'complete', response.complete);
  await gw.stop(); await redis.stop();
}, 120_000);
