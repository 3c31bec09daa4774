// A short list of log records, as `LineList` shows one: those of a run.
import { Store } from "../lib/store.js";

const MOST = 10_000;

export class LineView extends Store {
  constructor() {
    super();
    this.clear();
  }

  clear() {
    this.records = [];
    this.shown = [];
    this.changed();
  }

  line(place) {
    return this.records[place];
  }

  /** Take in records, in the order of their times; those that are here already are left out. */
  add(records) {
    const seen = new Set(this.records.map((log) => log.logId));
    const fresh = records.filter((log) => !seen.has(log.logId));
    if (!fresh.length) return;
    this.records = this.records.concat(fresh).sort((a, b) => (a.createdAt < b.createdAt ? -1 : a.createdAt > b.createdAt ? 1 : 0)).slice(-MOST);
    this.shown = this.records.map((_, place) => place);
    this.changed();
  }
}
