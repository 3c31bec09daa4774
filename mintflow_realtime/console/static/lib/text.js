// Times, durations and sizes as people read them. Milliseconds in, unless a name says otherwise.

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });
const day = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short" });

/** Return the clock's time of an ISO time, with the day where it isn't today. */
export function at(iso) {
  const when = new Date(iso);
  if (Number.isNaN(when.getTime())) return String(iso ?? "");
  const today = when.toDateString() === new Date().toDateString();
  return today ? clock.format(when) : `${day.format(when)} ${clock.format(when)}`;
}

/** Return how long ago an ISO time was. */
export function ago(iso, now = Date.now()) {
  const ms = now - Date.parse(iso);
  if (Number.isNaN(ms)) return "";
  return ms < 1000 ? "now" : `${lasted(ms)} ago`;
}

/** Return a duration: `340 ms`, `4.2 s`, `3:07`, `2:03:07`. */
export function lasted(ms) {
  if (!(ms >= 0)) return "";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.floor(ms / 1000);
  const two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const rest = `${Math.floor((seconds % 3600) / 60)}:${two(seconds % 60)}`;
  return hours ? `${hours}:${rest.padStart(5, "0")}` : rest;
}

/** Return the milliseconds from the start of a run or node to its end, or to `now`. */
export function span(one, now = Date.now()) {
  const begin = Date.parse(one.startedAt);
  const end = one.finishedAt ? Date.parse(one.finishedAt) : now;
  return Math.max(0, end - begin);
}

/** Return bytes as `12 B`, `3.4 KB`, `5.6 MB`. */
export function bytes(n) {
  if (typeof n !== "number") return "";
  const units = ["B", "KB", "MB", "GB"];
  let place = 0;
  while (n >= 1000 && place < units.length - 1) {
    n /= 1000;
    place += 1;
  }
  return `${place && n < 100 ? n.toFixed(1) : Math.round(n)} ${units[place]}`;
}

/** Return an error, text or any JSON, as text. */
export function errorText(error) {
  if (error === undefined || error === null) return "";
  return typeof error === "string" ? error : JSON.stringify(error);
}

/** Return the last part of what `number` of `thing` is: `1 line`, `2 lines`. */
export function count(number, thing) {
  return `${number.toLocaleString("en")} ${thing}${number === 1 ? "" : "s"}`;
}
