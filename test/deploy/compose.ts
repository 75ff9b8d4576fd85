/** compose.yaml as its tests see it. */
import { parse } from 'yaml';
import { readRepository } from '../support/deploy-tools.js';

/** A service of compose.yaml; only what tests look at has a type. */
export interface Service {
  image: string;
  build?: { target?: string };
  scale?: number;
  environment?: Record<string, string>;
  ports?: string[];
  networks?: string[];
  read_only?: boolean;
  cap_drop?: string[];
  security_opt?: string[];
  healthcheck?: { test: string[]; timeout?: string };
  stop_grace_period?: string;
}
/** compose.yaml, as Docker Compose reads it. */
export const compose = parse(readRepository('compose.yaml'), { merge: true }) as {
  services: Record<string, Service>;
  networks: Record<string, { internal?: boolean } | null>;
};
/** Its services, by name. */
export const services = Object.entries(compose.services);
