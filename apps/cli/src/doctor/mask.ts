/** Takes secrets out of whatever is about to be shown: libraries put passwords into the texts of their errors. */

export type Mask = (text: string) => string;

/** Shorter ones would take harmless words with them. */
const SECRET_LENGTH_MIN = 4;

/** `secrets` are passwords and tokens; of `urls` the password is meant. */
export function maskOf(
  secrets: readonly (string | null | undefined)[],
  urls: readonly (string | null | undefined)[],
): Mask {
  const texts = [...secrets.map((value) => value ?? ''), ...urls.flatMap((url) => passwordOf(url ?? ''))]
    .filter((value) => value.length >= SECRET_LENGTH_MIN)
    // The longest first: one may be part of another.
    .toSorted((a, b) => b.length - a.length);
  return (text) => texts.reduce((masked, secret) => masked.replaceAll(secret, '***'), text);
}

function passwordOf(text: string): string[] {
  if (!URL.canParse(text)) return [];
  const { password } = new URL(text);
  return password === '' ? [] : [password, decodeURIComponent(password)];
}
