// The way to the daemon: the token, and the one question that this page asks.

const KEY = "p2pfusion-token";
const TIMEOUT_MS = 10000;

/** The daemon answered, and said no. */
export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

/** The token of the link that opened this page, kept as long as its tab is open. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname);
  }
}

/** What is new after these numbers. */
export async function ask(cursors) {
  const token = sessionStorage.getItem(KEY);
  if (!token) throw new Refused(401, "this page has no token");
  const answer = await fetch(`api/view?${new URLSearchParams(cursors)}`, {
    headers: { Authorization: `Bearer ${token}` },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const told = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, told.error);
  return told;
}
