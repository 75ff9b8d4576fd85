/**
 * Text of others on our terminal. A worker's name or a script's line may hold escape sequences that retitle the
 * window, fill the clipboard, hide text or answer as if typed (kubectl had CVE-2021-25743 for it), so on a terminal
 * control characters are shown instead of sent. Into a pipe or file everything goes as it is: that is data.
 */

// C0, DEL, C1, and what reorders or hides text (bidirectional controls, zero width).
// oxlint-disable-next-line no-control-regex -- control characters are what this is about
const CONTROL = /[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
// Colour and weight (SGR) may stay, and so may tabs.
// oxlint-disable-next-line no-control-regex -- as above
const LINE_CONTROL = /(\x1b\[[0-9;:]*m|\t)|[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

function spelled(character: string): string {
  const code = character.charCodeAt(0);
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
}

/** True for text that {@link visible} would change, but for its line breaks. */
export function hasControl(text: string): boolean {
  return text.split('\n').some((line) => visible(line) !== line);
}

/** A name or a sentence with every control character spelled out (`\x1b`). */
export function visible(text: string): string {
  return text.replace(CONTROL, spelled);
}

/** A line of output that keeps its colours and tabs; all other control characters are spelled out. */
export function visibleLine(line: string): string {
  return line.replace(LINE_CONTROL, (found, harmless: string | undefined) => harmless ?? spelled(found));
}

/** JSON text whose control characters are escaped as JSON does it, so that it stays the same document. */
export function visibleJson(json: string): string {
  return json.replace(CONTROL, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
