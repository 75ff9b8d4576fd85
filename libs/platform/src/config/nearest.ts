/** The known word a typo was meant to be. */

function editDistance(from: string, to: string): number {
  let previous = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let row = 1; row <= from.length; row++) {
    const current = [row];
    for (let column = 1; column <= to.length; column++) {
      const substitution = (previous[column - 1] ?? 0) + (from[row - 1] === to[column - 1] ? 0 : 1);
      current.push(Math.min(substitution, (previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[to.length] ?? 0;
}

/** The closest of `known`, or undefined when none is close enough to be what the user meant. */
export function nearest(word: string, known: Iterable<string>): string | undefined {
  const folded = word.toLowerCase().replace(/[_-]/g, '');
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(folded.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(folded, candidate.toLowerCase().replace(/[_-]/g, ''));
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** " Did you mean `x`?", or nothing. */
export function suggestion(word: string, known: Iterable<string>, prefix = ''): string {
  const match = nearest(word, known);
  return match === undefined ? '' : ` Did you mean \`${prefix}${match}\`?`;
}
