// Numbers as people read them; what is unknown is a dash.

export const UNKNOWN = "\u2013";

const known = (value) => typeof value === "number" && Number.isFinite(value);

/** `1.2 MB`. */
export function size(bytes) {
  if (!known(bytes)) return UNKNOWN;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  let value = bytes;
  while (value >= 999.5 && at < units.length - 1) {
    value /= 1000;
    at += 1;
  }
  return `${at && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

/** `0.32 s`, `12 s`, `3 min`, `5 h`. */
export function duration(seconds) {
  if (!known(seconds)) return UNKNOWN;
  if (seconds === 0) return "0 s";
  if (seconds < 0.0995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${Number(seconds.toPrecision(2))} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** `91.8%`. */
export function percent(part) {
  return known(part) ? `${Number((100 * part).toFixed(1))}%` : UNKNOWN;
}

/** Three digits; `3.3e-6` where they would begin far behind the point. */
export function number(value) {
  if (!known(value)) return UNKNOWN;
  const magnitude = Math.abs(value);
  if (magnitude > 0 && magnitude < 0.001) return value.toExponential(1);
  return magnitude >= 1000 ? String(Math.round(value)) : String(Number(value.toPrecision(3)));
}

/** `1 peer`, `2 peers`. */
export function plural(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}
