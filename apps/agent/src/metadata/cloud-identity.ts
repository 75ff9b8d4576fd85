/** What a cloud says of this machine; empty text: not said. */
export interface CloudIdentity {
  instanceId: string;
  region: string;
  az: string;
  publicIp: string;
}
