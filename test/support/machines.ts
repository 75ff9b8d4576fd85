/** The machines of a pretended AWS account as the account itself tells, which is no word of what is tested. */
import { onTestFinished } from 'vitest';
import type { Moto } from './moto.js';
import { until } from './until.js';

export const MANAGED_TAG = 'carrierarr:managed';
const TARGET_TAG = 'carrierarr:target';
const LOOK_MS = 200;

/** An instance of the account. */
export interface Machine {
  id: string;
  state: string;
  /** The ClientToken that it was made by. */
  token: string;
  target: string;
  managed: string;
}

/** Every machine that ever was, straight from the account: what EC2 answers to DescribeInstances, in its own XML. */
export function machinesOf(moto: Moto): Promise<Machine[]> {
  // moto answers 500 at times when an instance is made meanwhile.
  return until('moto to tell its instances', () => tellMachines(moto));
}

async function tellMachines(moto: Moto): Promise<Machine[]> {
  const response = await fetch(moto.url, {
    method: 'POST',
    headers: {
      // By its scope moto knows which service is meant. It does not check signatures.
      Authorization:
        'AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/ec2/aws4_request, SignedHeaders=, Signature=',
      'Content-Type': 'application/x-www-form-urlencoded',
    },
    body: 'Action=DescribeInstances&Version=2016-11-15',
  });
  const xml = await response.text();
  if (!response.ok) throw new Error(`moto did not tell its instances: ${response.status} ${xml.slice(0, 500)}`);
  // The scripts ask for one instance at a time, so each reservation holds one.
  return xml
    .split('<reservationId>')
    .slice(1)
    .map((text) => {
      const one = (pattern: RegExp) => pattern.exec(text)?.[1] ?? '';
      const tag = (key: string) => one(new RegExp(`<key>${key}</key>\\s*<value>([^<]*)</value>`));
      return {
        id: one(/<instanceId>([^<]+)</),
        state: one(/<instanceState>[^]*?<name>([^<]+)</),
        token: one(/<clientToken>([^<]+)</),
        ...{ target: tag(TARGET_TAG), managed: tag(MANAGED_TAG) },
      };
    });
}

/** Whether it costs money. */
export const isLiving = ({ state }: Machine) => state !== 'terminated' && state !== 'shutting-down';

/** Looks all along for two living machines of one target. `stop` tells what was seen, after one last look. */
export function watchForTwins(moto: Moto): { stop(): Promise<{ twins: string[]; looks: number }> } {
  const twins = new Set<string>();
  let looks = 0;
  const look = async () => {
    const living = (await machinesOf(moto)).filter(isLiving);
    looks += 1;
    for (const target of new Set(living.map((machine) => machine.target))) {
      const all = living.filter((machine) => machine.target === target);
      if (all.length > 1) twins.add(`${target}: ${all.map(({ id, state }) => `${id} (${state})`).join(', ')}`);
    }
  };
  const controller = new AbortController();
  const { signal } = controller;
  const watching = (async () => {
    while (!signal.aborted) {
      await look();
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  })();
  watching.catch(() => undefined);
  onTestFinished(() => controller.abort());
  return {
    async stop() {
      controller.abort();
      await watching;
      await look();
      return { twins: [...twins], looks };
    },
  };
}
