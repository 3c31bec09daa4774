// One run from its beginning: its events, and its log or that of one of its nodes; from what is kept, then live.
import { Store } from "../lib/store.js";
import { LineView } from "./line_view.js";

const MOST_EVENTS = 5_000;
const PAGES = 20;
// As many events as the server keeps of a run.
const KEPT = 1_000;

export class RunStory extends Store {
  #seen = new Set();

  constructor({ connection, runs, lines }, flowId, runId) {
    super();
    Object.assign(this, { connection, runs, lines, flowId, runId, events: [], eventsGone: false, error: "", node: "" });
    this.log = new LineView();
  }

  /** Follow the run; return how to end it. */
  begin() {
    const ends = [
      this.runs.follow(this.flowId, this.runId, (event, payload) => this.#take(event, payload)),
      this.lines ? this.lines.follow((records) => this.log.add(records.filter((log) => this.#isOurs(log)))) : () => {},
    ];
    this.#read();
    this.ofNode("");
    return () => {
      for (const end of ends) end();
      // Which unsubscribes from one that has ended.
      this.runs.look(this.flowId, this.runId);
    };
  }

  /** Show the log of one node alone, "" for the run's. */
  async ofNode(node) {
    this.node = node;
    this.log.clear();
    if (!this.lines) return;
    const payload = { flowId: this.flowId, runId: this.runId, limit: 1000, ...(node ? { nodeId: node } : {}) };
    try {
      const { logs } = await this.connection.call("/logs", "filter_logs", payload);
      if (this.node === node) this.log.add(logs);
    } catch (error) {
      this.error = error.message;
    }
    this.changed();
  }

  #isOurs(log) {
    return log.runId === this.runId && (!log.flowId || log.flowId === this.flowId) && (!this.node || log.nodeId === this.node);
  }

  async #read() {
    let since = 0;
    try {
      for (let page = 0; page < PAGES; page += 1) {
        const wanted = { flowId: this.flowId, runId: this.runId, since };
        const { run, events, nextSince } = await this.connection.call("/flows", "subscribe_flow", wanted);
        if (run) this.runs.put(run);
        if (!events && run && run.seq - KEPT > since) {
          // The first ones are gone; the others are asked for from where the server begins.
          since = run.seq - KEPT;
          this.eventsGone = true;
          continue;
        }
        for (const event of events || []) this.#take(event.type, event);
        if (nextSince === undefined) break;
        since = nextSince;
      }
    } catch (error) {
      this.error = error.message;
    }
    this.changed();
  }

  #take(name, payload) {
    if (this.#seen.has(payload.seq)) return;
    this.#seen.add(payload.seq);
    this.events.push([name, payload]);
    const last = this.events.at(-2);
    if (last && last[1].seq > payload.seq) this.events.sort(([, a], [, b]) => a.seq - b.seq);
    if (this.events.length > MOST_EVENTS) this.#seen.delete(this.events.shift()[1].seq);
    this.changed();
  }
}
