import { execFileSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ServerCredentials } from '@grpc/grpc-js';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { until } from '../support/until.js';
import { endAgents, startAgent } from './support/agent-process.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { TestControlPlane } from './support/control-plane.js';

let folder: string;
let control: TestControlPlane;

beforeEach(async () => {
  folder = temporaryFolder('agent-');
  authority('ca');
  certificate('server', 'ca');
  certificate('agent', 'ca');
  control = await TestControlPlane.start({ credentials: await credentials() });
});
afterEach(async () => {
  control.stop();
  await endAgents();
});

const file = (name: string) => join(folder, name);
const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe', cwd: folder });

function authority(name: string): void {
  const subject = ['-subj', `/CN=${name}`, '-days', '2'];
  openssl(
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-keyout',
    `${name}.key`,
    '-out',
    `${name}.pem`,
    ...subject,
  );
}

function certificate(name: string, ca: string): void {
  openssl(
    'req',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-keyout',
    `${name}.key`,
    '-out',
    `${name}.csr`,
    '-subj',
    `/CN=${name}`,
    '-addext',
    'subjectAltName=IP:127.0.0.1',
  );
  openssl(
    'x509',
    '-req',
    '-in',
    `${name}.csr`,
    '-CA',
    `${ca}.pem`,
    '-CAkey',
    `${ca}.key`,
    '-CAcreateserial',
    '-days',
    '2',
    '-copy_extensions',
    'copy',
    '-out',
    `${name}.pem`,
  );
}

/** Of a control plane that wants certificates of agents. */
async function credentials(): Promise<ServerCredentials> {
  const [ca, cert, key] = await Promise.all(['ca.pem', 'server.pem', 'server.key'].map((name) => readFile(file(name))));
  return ServerCredentials.createSsl(ca as Buffer, [{ cert_chain: cert as Buffer, private_key: key as Buffer }], true);
}

const flags = (cert: string) => [
  ...['--control-plane', control.address, '--tls-ca', file('ca.pem')],
  ...['--tls-cert', file(`${cert}.pem`), '--tls-key', file(`${cert}.key`), '--token', 'secret-token'],
];

it('speaks TLS with a certificate of its own', async () => {
  await startAgent({ flags: flags('agent') });
  await control.connected();
  expect(control.tokens).toEqual(['Bearer secret-token']);
});

it('reads its certificate anew when it connects, so that a renewal needs no restart', async () => {
  authority('other');
  certificate('wrong', 'other');
  const agent = await startAgent({ flags: flags('wrong') });
  await until('a refusal', () => agent.logs().includes('no connection to the control plane'));
  expect(control.registrations).toEqual([]);
  certificate('good', 'ca');
  await writeFile(file('wrong.pem'), await readFile(file('good.pem')));
  await writeFile(file('wrong.key'), await readFile(file('good.key')));
  await control.connected();
});

it('does not trust a control plane of another authority', async () => {
  authority('other');
  const agent = await startAgent({ flags: ['--control-plane', control.address, '--tls-ca', file('other.pem')] });
  await until('a refusal', () => agent.logs().includes('no connection to the control plane'));
  expect(control.registrations).toEqual([]);
});
