/**
 * Bounds of the settings that are durations or sizes, as the programs know them. The schema of values cannot tell that 1s is less than
 * 8s; the chart's templates can.
 */
import { gatewaySchema } from '@carrierarr/gateway';
import { monitorSchema } from '@carrierarr/monitor';
import { resolveKeys } from '@carrierarr/platform';
import { parseByteSize, parseDuration } from '@carrierarr/platform/light';
import { runnerSchema } from '@carrierarr/runner';

/** By key: `from` and `to` in ms or bytes, and the program's own words. */
function boundsOf(schema) {
  return Object.fromEntries(
    resolveKeys(schema).flatMap(({ key, allowed }) => {
      const [, kind, from, to] = /^a (duration|size)\b.*, from (\S+) to (\S+)$/.exec(allowed) ?? [];
      if (kind === undefined) return [];
      const parse = kind === 'duration' ? parseDuration : parseByteSize;
      return [[key, { kind, from: parse(from), to: parse(to), allowed }]];
    }),
  );
}

/** The text of bounds.json: bounds by the component whose `config` has them. */
export function settingBounds() {
  const bounds = {
    gateway: boundsOf(gatewaySchema),
    runner: boundsOf(runnerSchema),
    monitor: boundsOf(monitorSchema),
  };
  return `${JSON.stringify(bounds, null, 2)}\n`;
}
