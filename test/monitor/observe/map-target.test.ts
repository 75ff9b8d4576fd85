import { TARGET_LENGTH_MAX } from '@carrierarr/protocol';
import { describe, expect, it } from 'vitest';
import { mapTarget } from '../../../apps/monitor/src/observe/map-target.js';

describe('the target of a machine', () => {
  it('is its tag carrierarr:target, before its name', () => {
    const tags = { 'carrierarr:target': 'gpu-1', Name: 'box' };
    expect(mapTarget('i-1', tags)).toEqual({ target: 'gpu-1', mapped_by: 'tag:carrierarr:target' });
  });

  it('is its name when it has no such tag, or an empty one', () => {
    expect(mapTarget('i-1', { Name: 'Großer Rechner' })).toEqual({ target: 'Großer Rechner', mapped_by: 'tag:Name' });
    const tags = { 'carrierarr:target': '', Name: 'box' };
    expect(mapTarget('i-1', tags)).toEqual({ target: 'box', mapped_by: 'tag:Name' });
  });

  it('is its id when it has no name either', () => {
    expect(mapTarget('i-1', {})).toEqual({ target: 'i-1', mapped_by: 'id' });
    const arn = 'arn:aws:ecs:eu-central-1:123456789012:task/prod/0123456789abcdef0123456789abcdef';
    expect(mapTarget(arn, {})).toEqual({ target: arn, mapped_by: 'id' });
  });

  it.each([
    ['a control character', 'gpu\u001b[31m'],
    ['a brace', 'gpu{1}'],
    ['a star', '*'],
    ['a space at its end', 'gpu '],
    ['too many characters', 'x'.repeat(TARGET_LENGTH_MAX + 1)],
  ])('is not a tag with %s, and the record says why', (_, value) => {
    const mapping = mapTarget('i-1', { 'carrierarr:target': value, Name: 'box' });
    expect(mapping).toMatchObject({ target: 'box', mapped_by: 'tag:Name' });
    expect(mapping.target_note).toMatch(/^Tag carrierarr:target is ".*", which is passed over: .+\.$/);
    expect(mapping.target_note).not.toMatch(/\p{Cc}/u);
    expect(mapTarget('i-1', { Name: value })).toMatchObject({ target: 'i-1', mapped_by: 'id' });
  });
});
