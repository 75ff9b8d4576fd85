/** Text that cannot move a terminal's cursor or forge a line of a log. */

/** `text` with control characters written as escapes; line feeds too unless `keepLines`. */
export function printable(text: string, { keepLines = false } = {}): string {
  return text.replace(/\p{Cc}/gu, (character) => {
    if (character === '\n') return keepLines ? character : '\\n';
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
}
