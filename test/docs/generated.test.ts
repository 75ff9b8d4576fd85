import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

interface Generator {
  generatedDocs(): Promise<Map<string, string>>;
}
const root = new URL('../../', import.meta.url);
const generator = (await import(new URL('scripts/generate-docs.mjs', root).pathname)) as Generator;
const docs = await generator.generatedDocs();

describe('a generated document', () => {
  it.each([...docs])('is what the code says: %s (else run `npm run docs`)', (path, text) => {
    expect(readFileSync(new URL(path, root), 'utf8')).toBe(text);
  });

  it('names nothing of the machine that made it', () => {
    for (const [path, text] of docs) expect([path, text.includes(root.pathname)]).toEqual([path, false]);
  });
});
