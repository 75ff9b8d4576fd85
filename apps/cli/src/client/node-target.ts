/** A node goes by several names, and what is given to it, and comes of that, is under its target, which may be another. */
import type { Output } from '../terminal/output.js';
import { FleetApi } from './fleet-api.js';
import { GatewayFailure } from './unreachable.js';

type Access = ConstructorParameters<typeof FleetApi>[0];

/** The target of the node of this name, said on `output` if it is another name; the name itself where there is no such node. */
export async function targetOfNode(access: Access, name: string, output: Output): Promise<string> {
  try {
    const node = await new FleetApi(access).node(name);
    if (node === undefined || node.target === name) return name;
    output.notice(`${name} is a node; its commands and output are those of ${node.target}.`);
    return node.target;
  } catch (error) {
    // An older gateway, or one that cannot say now: what follows shows.
    if (error instanceof GatewayFailure) return name;
    throw error;
  }
}
