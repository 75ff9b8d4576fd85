/**
 * Certificates from files, read again every few seconds: a renewed one is used for new connections, and streams stay. One
 * that cannot be used (a key that belongs to another certificate, half a file) is logged, and the one before stays.
 *
 * gRPC has such a provider itself, but hands over whatever lies there, and refuses every connection while it is no good.
 */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import { type experimental } from '@grpc/grpc-js';
import type { Clock, Logger, Timer } from '@carrierarr/platform';

type CertificateProvider = experimental.CertificateProvider;

const READ_EVERY_MS = 5_000;

export interface CertificateFilesOptions {
  cert: string;
  key: string;
  clientCa: string | null;
  clock: Clock;
  logger: Pick<Logger, 'info' | 'error'>;
  onReload?: () => void;
}

interface Loaded {
  cert: Buffer;
  key: Buffer;
  ca: Buffer | undefined;
}

export class CertificateFiles implements CertificateProvider {
  readonly #o: CertificateFilesOptions;
  readonly #caListeners = new Set<experimental.CaCertificateUpdateListener>();
  readonly #identityListeners = new Set<experimental.IdentityCertificateUpdateListener>();
  #loaded: Loaded | undefined;
  #timer: Timer | undefined;
  #problem: string | undefined;

  constructor(options: CertificateFilesOptions) {
    this.#o = options;
  }

  /** Reads them. Throws an Error that names the files when they cannot be used. */
  async start(): Promise<void> {
    const { cert, key, clientCa, clock } = this.#o;
    try {
      this.#loaded = await this.#read();
    } catch (cause) {
      const files = [cert, key, ...(clientCa === null ? [] : [clientCa])].join(', ');
      throw new Error(`The TLS files for agents (${files}) cannot be used: ${messageOf(cause)}`, { cause });
    }
    this.#timer = clock.setInterval(() => void this.refresh(), READ_EVERY_MS);
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** Reads them now. Never rejects. */
  async refresh(): Promise<void> {
    const { logger, cert, onReload } = this.#o;
    try {
      const now = await this.#read();
      this.#problem = undefined;
      if (this.#loaded !== undefined && isSame(this.#loaded, now)) return;
      this.#loaded = now;
      for (const listener of this.#identityListeners) this.#tellIdentity(listener);
      for (const listener of this.#caListeners) this.#tellCa(listener);
      onReload?.();
      logger.info({ cert }, 'the TLS files for agents have changed and are used for new connections');
    } catch (error) {
      const problem = messageOf(error);
      if (problem !== this.#problem) {
        logger.error({ cert, problem }, 'the TLS files for agents cannot be used as they are now; those before stay');
      }
      this.#problem = problem;
    }
  }

  addCaCertificateListener(listener: experimental.CaCertificateUpdateListener): void {
    this.#caListeners.add(listener);
    // Not at once: gRPC takes notice of what comes after this call.
    process.nextTick(() => this.#tellCa(listener));
  }

  removeCaCertificateListener(listener: experimental.CaCertificateUpdateListener): void {
    this.#caListeners.delete(listener);
  }

  addIdentityCertificateListener(listener: experimental.IdentityCertificateUpdateListener): void {
    this.#identityListeners.add(listener);
    process.nextTick(() => this.#tellIdentity(listener));
  }

  removeIdentityCertificateListener(listener: experimental.IdentityCertificateUpdateListener): void {
    this.#identityListeners.delete(listener);
  }

  #tellCa(listener: experimental.CaCertificateUpdateListener): void {
    listener(this.#loaded?.ca === undefined ? null : { caCertificate: this.#loaded.ca });
  }

  #tellIdentity(listener: experimental.IdentityCertificateUpdateListener): void {
    listener(this.#loaded === undefined ? null : { certificate: this.#loaded.cert, privateKey: this.#loaded.key });
  }

  async #read(): Promise<Loaded> {
    const { cert, key, clientCa } = this.#o;
    const [certText, keyText, ca] = await Promise.all([
      readFile(cert),
      readFile(key),
      clientCa === null ? undefined : readFile(clientCa),
    ]);
    // Throws for what is none, and for a key of another certificate.
    createSecureContext({ cert: certText, key: keyText, ...(ca !== undefined && { ca }) });
    if (ca !== undefined && clientCa !== null) checkAuthorities(ca.toString('latin1'), clientCa);
    return { cert: certText, key: keyText, ca };
  }
}

const MARK = /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----/g;
const CERTIFICATE = new RegExp(`${MARK.source}[^-]+-----END (?:X509 |TRUSTED )?CERTIFICATE-----`, 'g');

/**
 * Throws unless it is one certificate or more, each whole. OpenSSL takes what it can read, also nothing, and then refuses
 * everybody without a word.
 */
function checkAuthorities(pem: string, path: string): void {
  const begun = pem.match(MARK)?.length ?? 0;
  const certificates = pem.match(CERTIFICATE) ?? [];
  const expected = `Expected the certificates (PEM) of who signs those of agents in ${path}`;
  if (begun === 0) throw new Error(`${expected}, got ${pem.length} bytes without any.`);
  if (certificates.length < begun) throw new Error(`${expected}, got one that is cut off.`);
  for (const [i, certificate] of certificates.entries()) {
    try {
      void new X509Certificate(certificate);
    } catch (cause) {
      throw new Error(`${expected}, but certificate ${i + 1} of ${certificates.length} cannot be read.`, { cause });
    }
  }
}

function isSame(a: Loaded, b: Loaded): boolean {
  return (
    a.cert.equals(b.cert) && a.key.equals(b.key) && (a.ca === b.ca || (a.ca?.equals(b.ca ?? Buffer.alloc(0)) ?? false))
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
