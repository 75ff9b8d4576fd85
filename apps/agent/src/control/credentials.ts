/** How the agent proves itself to a control plane, and the control plane to it. */
import { readFileSync } from 'node:fs';
import { type ChannelCredentials, credentials, Metadata } from '@grpc/grpc-js';
import { type AgentConfig, usesTls } from '../config.js';

type TlsConfig = Pick<AgentConfig, 'tls' | 'tlsCa' | 'tlsCert' | 'tlsKey'>;

/** Read from the files each time, since certificates are renewed. Throws when a file cannot be read. */
export function channelCredentials(config: TlsConfig): ChannelCredentials {
  if (!usesTls(config)) return credentials.createInsecure();
  const read = (path: string | null) => (path === null ? null : readFileSync(path));
  return credentials.createSsl(read(config.tlsCa), read(config.tlsKey), read(config.tlsCert));
}

/** Sent with each call. */
export function callMetadata(token: string | null): Metadata {
  const metadata = new Metadata();
  if (token !== null) metadata.set('authorization', `Bearer ${token}`);
  return metadata;
}
