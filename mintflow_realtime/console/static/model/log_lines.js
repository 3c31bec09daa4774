// Log records, 100,000 at most: a list of lines with numbers that only grow, and those of it that a filter shows.
import { Store } from "../lib/store.js";

export const MOST_LINES = 100_000;
// Dropped together: taking one from the front of a long list costs as much as taking many.
const SLACK = 5_000;
// Filtering is done in turns of this, so that it is never felt.
const TURN_MS = 8;
const HISTORY_PAGES = 10;
const PAGE = 1_000;
export const LEVELS = ["debug", "info", "warn", "error"];

export class LogLines extends Store {
  #filter = null;
  #turn = 0;
  #seen = new Set();
  #followers = new Set();

  constructor(connection) {
    super();
    this.connection = connection;
    this.clear();
    this.isLoading = false;
    connection.on("/logs", "new_log", ({ log }) => this.add([log]));
    connection.on("/logs", "logs_dropped", ({ count }) => this.mark(`${count} lines dropped: this page reads too slowly`));
    connection.on("/logs", "clear_logs", (what) => this.#forget(what));
    connection.onFresh("/logs", () => this.#load());
  }

  /** Call `listener` with records as they come, older ones too; return how to end it. */
  follow(listener) {
    this.#followers.add(listener);
    return () => this.#followers.delete(listener);
  }

  /** Forget all lines. */
  clear() {
    this.lines = [];
    this.first = 0;
    this.#seen.clear();
    this.shown = [];
    this.changed();
  }

  /** Return the line of a number. */
  line(number) {
    return this.lines[number - this.first];
  }

  /** Add records at the end; those that are here already are left out. */
  add(records) {
    const fresh = records.filter((log) => !this.#seen.has(log.logId));
    for (const log of fresh) {
      this.#seen.add(log.logId);
      this.#push(log);
    }
    for (const tell of this.#followers) tell(fresh);
    this.changed();
  }

  /** Say at this place that something is missing. */
  mark(text) {
    this.#push({ marker: text, createdAt: new Date().toISOString() });
    this.changed();
  }

  /** Show those lines alone that `filter` (level, flow, run, node, text) lets pass; null for all. */
  async show(filter) {
    this.#filter = filter && compiled(filter);
    const turn = (this.#turn += 1);
    // The end of the list is being looked at, so it comes first: what is shown is right within one turn.
    let number = this.first + this.lines.length - 1;
    const found = [];
    const upTo = number;
    let until = performance.now() + TURN_MS;
    for (; number >= this.first; number -= 1) {
      if (this.#passes(this.line(number))) found.push(number);
      if (number % 256 === 0 && performance.now() > until) {
        await new Promise((resolve) => setTimeout(resolve));
        if (turn !== this.#turn) return;
        until = performance.now() + TURN_MS;
      }
    }
    const since = [];
    for (number = upTo + 1; number < this.first + this.lines.length; number += 1) {
      if (this.#passes(this.line(number))) since.push(number);
    }
    this.shown = found.reverse().filter((one) => one >= this.first).concat(since);
    this.changedNow();
  }

  /** Return what is shown as NDJSON. */
  ndjson() {
    return this.shown.map((number) => `${JSON.stringify(this.line(number))}\n`);
  }

  #push(line) {
    const number = this.first + this.lines.length;
    this.lines.push(line);
    if (this.#passes(line)) this.shown.push(number);
    if (this.lines.length > MOST_LINES + SLACK) this.#drop();
  }

  #drop() {
    const gone = this.lines.splice(0, this.lines.length - MOST_LINES);
    this.first += gone.length;
    for (const line of gone) this.#seen.delete(line.logId);
    let place = 0;
    while (place < this.shown.length && this.shown[place] < this.first) place += 1;
    this.shown.splice(0, place);
  }

  #passes(line) {
    return !this.#filter || Boolean(line.marker) || this.#filter(line);
  }

  // The live feed has begun before: what comes twice is left out, what comes late is put before it.
  async #load() {
    const turn = (this.loading = {});
    this.isLoading = true;
    this.changed();
    try {
      let before;
      for (let page = 0; page < HISTORY_PAGES; page += 1) {
        const payload = before ? { limit: PAGE, before } : { limit: PAGE };
        const { logs, nextCursor } = await this.connection.call("/logs", "log_history", payload);
        if (this.loading !== turn) return;
        if (this.#prepend(logs) < logs.length || !nextCursor) break;
        before = nextCursor;
      }
    } catch {
      // The connection says what is wrong; when it is back, this begins again.
    } finally {
      if (this.loading === turn) this.isLoading = false;
      this.changed();
    }
  }

  // Returns how many were new. After a gap the newest page overlaps with nothing, and stands after what was.
  #prepend(records) {
    const fresh = records.filter((log) => !this.#seen.has(log.logId));
    const hadSome = this.lines.some((line) => line.logId);
    for (const log of fresh) this.#seen.add(log.logId);
    if (hadSome && fresh.length && fresh[0].createdAt > this.lines[0].createdAt) {
      this.lines = this.lines.concat(fresh).sort((a, b) => (a.createdAt < b.createdAt ? -1 : a.createdAt > b.createdAt ? 1 : 0));
    } else {
      this.lines = fresh.concat(this.lines);
      // Those that are here keep their numbers.
      this.first -= fresh.length;
    }
    this.#recount();
    for (const tell of this.#followers) tell(fresh);
    return fresh.length;
  }

  #recount() {
    const over = Math.max(0, this.lines.length - MOST_LINES);
    for (const line of this.lines.splice(0, over)) this.#seen.delete(line.logId);
    this.first += over;
    this.shown = [];
    this.lines.forEach((line, place) => this.#passes(line) && this.shown.push(this.first + place));
    this.#turn += 1;
    this.changed();
  }

  #forget({ flowId, runId, logId }) {
    const isGone = (line) => (logId ? line.logId === logId : runId ? line.runId === runId : flowId ? line.flowId === flowId : false);
    this.lines = this.lines.filter((line) => !isGone(line));
    this.#recount();
  }
}

/** Return the test of a filter. */
export function compiled({ level, flow, run, node, text }) {
  const least = LEVELS.indexOf(level || "debug");
  const needle = (text || "").toLowerCase();
  const has = (value, wanted) => !wanted || String(value ?? "").includes(wanted);
  return (line) =>
    LEVELS.indexOf(line.logLevel) >= least && has(line.flowId, flow) && has(line.runId, run) && has(line.nodeId, node) &&
    (!needle || line.message.toLowerCase().includes(needle));
}
