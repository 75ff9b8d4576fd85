/** What `-f` names, as manifests, each resource once; and the problems of the rest. */
import type { Manifest } from '@carrierarr/protocol';
import type { Host } from '../../host.js';
import type { Output } from '../../terminal/output.js';
import { referenceOf } from '../references.js';
import { parseManifests, type Place, placeText } from './documents.js';
import { readSources } from './sources.js';

export interface Located {
  readonly place: Place;
  readonly manifest: Manifest;
  /** As it stands in the file, if it does. */
  readonly status?: unknown;
}

export interface Manifests {
  readonly usable: readonly Located[];
  /** Documents and files that cannot be used; each has been told. */
  readonly refused: number;
  /** There is nothing in any of the files, not even a comment. */
  readonly isBlank: boolean;
}

/** Tells each problem on standard error as it is found. */
export async function readManifests(paths: readonly string[], host: Host, output: Output): Promise<Manifests> {
  const usable = new Map<string, Located>();
  let refused = 0;
  let isBlank = true;
  for (const source of await readSources(paths, host)) {
    if ('problem' in source) {
      refused++;
      output.notice(`${source.file}: ${source.problem}`);
      continue;
    }
    isBlank &&= source.text.trim() === '';
    for (const parsed of parseManifests(source.file, source.text)) {
      if ('problems' in parsed) {
        refused++;
        for (const { place, text } of parsed.problems) output.notice(`${placeText(place)}: ${text}`);
        continue;
      }
      const reference = referenceOf(parsed.manifest);
      const first = usable.get(reference);
      if (first === undefined) {
        usable.set(reference, parsed);
        continue;
      }
      refused++;
      output.notice(
        `${placeText(parsed.place)}: ${reference} was there before, in ${placeText(first.place)}. Keep one.`,
      );
    }
  }
  return { usable: [...usable.values()], refused, isBlank };
}
