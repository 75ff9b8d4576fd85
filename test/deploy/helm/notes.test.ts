/** What helm says after an installation: above all, what there is to mind. */
import { describe, expect, test } from 'vitest';
import { helm, notesMissing } from '../../support/deploy-tools.js';
import { RENDER_MS, renderArguments } from './chart.js';

/** All that it says. No cluster is asked. */
async function said(values: Record<string, unknown>, scenario: string): Promise<string> {
  const [, ...args] = renderArguments(scenario, values);
  return helm('install', ...args, '--dry-run=client');
}

/** What is to be minded, a line each. */
async function minded(values: Record<string, unknown>, scenario = 'default'): Promise<string[]> {
  const text = await said(values, scenario);
  return [...text.slice(text.indexOf('\nMind:\n')).matchAll(/^ {2}- (.*)$/gm)].map((match) => match[1] ?? '');
}

describe.skipIf(notesMissing !== undefined).concurrent('helm install says', { timeout: RENDER_MS }, () => {
  const ingress = { 'ingress.enabled': true, 'ingress.hosts': ['a.example'] };
  const inClear = 'leads to gateways without TLS: tokens, commands and output cross the network in clear';

  test.each([
    ['an Ingress', 'ingress', ingress],
    ['a load balancer', 'gateway.service', { 'gateway.service.type': 'LoadBalancer' }],
    ['ports of the nodes', 'gateway.service', { 'gateway.service.type': 'NodePort' }],
  ])('that clients come in without TLS through %s', async (_, key, values) => {
    const found = (await minded(values)).filter((line) => line.includes(inClear));
    expect(found).toEqual([expect.stringMatching(new RegExp(`^${key} leads to `))]);
  });

  test.each([
    ['nothing is open', {}],
    ['an Ingress has a certificate', { ...ingress, 'ingress.tls': [{ secretName: 'tls' }] }],
    ['an Ingress has a certificate of ACM', { ...ingress, 'ingress.alb.certificateArn': 'arn:aws:acm:a' }],
  ])('nothing of that where %s', async (_, values) => {
    expect((await minded(values)).filter((line) => line.includes(inClear))).toEqual([]);
  });

  test('that every machine may be an agent, and where it is not said which', async () => {
    const ofAgents = async (scenario: string, values = {}) =>
      (await minded(values, scenario)).filter((line) => /agents/.test(line)).map((line) => line.split(':')[0]);
    expect(await ofAgents('inside')).toEqual(['agents.grpc.insecure', 'networkPolicy.agentsFrom is empty']);
    expect(await ofAgents('agents-in-use')).toEqual(['agents.grpc.insecure']);
  });

  test('how an agent is started, at an address where what it is told to speak is spoken', async () => {
    const [tls, tokens] = [{ atProxy: true }, { existingSecret: 'tokens' }];
    const inCluster = { 'agents.grpc.enabled': true, 'agents.grpc.tls': tls, 'agents.grpc.tokens': tokens };
    const started = async (scenario: string, values = {}) =>
      /carrierarr-agent -control-plane (.*)/.exec(await said(values, scenario))?.[1];
    expect(await started('agents-route')).toBe('agents.example:443 --tls --token-file agent-token');
    expect(await started('agents-certificates')).toMatch(/^main-carrierarr-agents\.fleet:443 --tls --tls-cert /);
    expect(await started('inside')).toMatch(/^main-carrierarr-agents\.fleet:50051$/);
    // The Service speaks no TLS, and the proxy is not the chart's.
    expect(await started('default', inCluster)).toBe('agents.example:443 --tls --token-file agent-token');
    const proxies = async (scenario: string, values = {}) =>
      (await minded(values, scenario)).filter((line) => line.startsWith('agents.grpc.tls.atProxy'));
    expect(await proxies('default', inCluster)).toEqual([expect.stringContaining('the host of your proxy')]);
    expect(await proxies('agents-route')).toEqual([]);
  });

  test('that workers are pretended, only where they are', async () => {
    const pretended = (lines: string[]) => lines.filter((line) => line.startsWith('Workers are pretended'));
    expect(pretended(await minded({}))).toHaveLength(1);
    expect(pretended(await minded({}, 'agents-in-use'))).toEqual([]);
  });
});
