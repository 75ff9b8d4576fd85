import { expect, it } from 'vitest';
import { segmentsOf } from '../../../apps/gateway/src/http/router.js';

it('splits a path at its slashes, without those at the end', () => {
  expect(segmentsOf('/api/v1/targets/a%2Fb')).toEqual(['api', 'v1', 'targets', 'a/b']);
  expect(segmentsOf('/api//v1///')).toEqual(['api', '', 'v1']);
  for (const path of ['/', '///', '']) expect(segmentsOf(path)).toEqual([]);
});

it('takes time by the length of the path only, which anybody may choose', () => {
  const path = `${'/'.repeat(200_000)}x`;
  const beganMs = performance.now();
  segmentsOf(path);
  // Of what looks at each run of slashes from each of its begins this would take many seconds.
  expect(performance.now() - beganMs).toBeLessThan(2_000);
});
