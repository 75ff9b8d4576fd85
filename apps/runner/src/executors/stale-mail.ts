/**
 * Removes mail that a runner left when it died: nobody waits for what becomes of it. A command's mail is there only while
 * its runner holds the target's lease, so what has none is left over, if it has none at two looks.
 */
import type { AgentMail, Lease } from '@carrierarr/store';

export class StaleMail {
  readonly #mail: Pick<AgentMail, 'openExecutions' | 'fenceOf' | 'remove'>;
  /** Found without a lease at the last look: execution to the fence of its mail. */
  #suspected = new Map<string, number>();

  constructor(mail: Pick<AgentMail, 'openExecutions' | 'fenceOf' | 'remove'>) {
    this.#mail = mail;
  }

  /** One look. `leases` were read before. Resolves to the executions that have mail. */
  async sweep(leases: readonly Lease[]): Promise<ReadonlySet<string>> {
    const open = await this.#mail.openExecutions();
    const held = new Set(leases.filter(({ state }) => state === 'running').map(({ execution }) => execution));
    const suspected = new Map<string, number>();
    for (const execution of open) {
      if (held.has(execution)) continue;
      const fence = this.#suspected.get(execution);
      // The fence: it may have been started again this very moment.
      if (fence === undefined) suspected.set(execution, await this.#mail.fenceOf(execution));
      else await this.#mail.remove(execution, fence);
    }
    this.#suspected = suspected;
    return new Set(open);
  }
}
