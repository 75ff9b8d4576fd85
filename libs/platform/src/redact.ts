/** Takes secrets out of text that is about to be written down. */

const SECRET_PARAMETERS = new Set(['access_token', 'token', 'password', 'id_token', 'refresh_token', 'client_secret']);
// Strangers write some of the text: each part ends where another could begin, so that none is looked at again and again.
// Greedy up to the last @ of the authority, since unescaped passwords contain @ as well.
const USER_INFO = /(:\/\/[^\s/?#:@]*):[^\s/?#]*@/g;
const PARAMETER = /([?&#])([^=&#?\s]+)=([^&#\s]+)/g;

function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name; // Broken escapes: no server would take it for one of ours either.
  }
}

/** `text` with the passwords and access tokens of every URL in it replaced by `***`. Works on broken URLs and paths. */
export function redactUrl(text: string): string {
  return text
    .replace(USER_INFO, '$1:***@')
    .replace(PARAMETER, (whole: string, mark: string, name: string) =>
      SECRET_PARAMETERS.has(decoded(name).toLowerCase()) ? `${mark}${name}=***` : whole,
    );
}
