// Runs of the tenant: those that start, by the tenant's events, and older ones by their logs and this tab's memory.
import { Store } from "../lib/store.js";

const MOST = 2_000;
const REMEMBERED = 200;
// Snapshots that are asked for at once.
const AT_ONCE = 8;
const EVENTS = ["flow_started", "flow_completed", "flow_failed", "flow_progress", "node_started", "node_completed", "node_failed",
  "flow_queued", "flow_waiting", "flow_cancelling", "flow_cancelled", "flow_lost", "node_waiting", "node_skipped", "node_cancelled"];
export const ENDED = new Set(["completed", "failed", "cancelled", "lost"]);

export const keyOf = (flowId, runId) => JSON.stringify([flowId, runId]);

export class Runs extends Store {
  #queue = [];
  #asking = 0;
  #listeners = new Set();
  #wanted = new Map();

  constructor(connection) {
    super();
    this.connection = connection;
    this.rows = new Map();
    for (const event of EVENTS) connection.on("/flows", event, (payload) => this.#take(event, payload));
    connection.onFresh("/flows", () => this.#fetchAll());
  }

  /** Show a run that isn't known yet, or as it is now. */
  look(flowId, runId) {
    const key = keyOf(flowId, runId);
    if (this.#queue.some((one) => one.key === key)) return;
    this.#queue.push({ key, flowId, runId });
    this.#next();
  }

  /** Look at the runs that log records are of. */
  discover(records) {
    for (const { flowId, runId } of records) {
      if (flowId && runId && !this.rows.has(keyOf(flowId, runId))) this.look(flowId, runId);
    }
  }

  /** Call `listener` with name and payload of each event of a run, which stays subscribed; return how to end it. */
  follow(flowId, runId, listener) {
    const key = keyOf(flowId, runId);
    const one = { key, listener };
    this.#listeners.add(one);
    this.#wanted.set(key, (this.#wanted.get(key) || 0) + 1);
    return () => {
      this.#listeners.delete(one);
      this.#wanted.set(key, this.#wanted.get(key) - 1);
    };
  }

  /** Return a run's snapshot, undefined where it isn't known. */
  get(flowId, runId) {
    return this.rows.get(keyOf(flowId, runId));
  }

  /** Take in a snapshot that somebody has asked for. */
  put(run) {
    const key = keyOf(run.flowId, run.runId);
    const known = this.rows.get(key);
    if (known && known.seq > run.seq) return;
    this.rows.set(key, run);
    if (this.rows.size > MOST) this.#forgetOldest();
    if (!known) this.#remember();
    this.changed();
  }

  #fetchAll() {
    const known = new Map(this.#remembered().map((one) => [keyOf(...one), one]));
    for (const [key, run] of this.rows) known.set(key, [run.flowId, run.runId]);
    for (const [flowId, runId] of known.values()) this.look(flowId, runId);
  }

  #take(event, payload) {
    const { flowId, runId } = payload || {};
    if (typeof flowId !== "string" || typeof runId !== "string") return;
    const key = keyOf(flowId, runId);
    for (const one of this.#listeners) if (one.key === key) one.listener(event, payload);
    const run = this.rows.get(key);
    // A run's beginning comes to the whole tenant; what comes then, only to who has subscribed to it.
    if (!run || event === "flow_started") this.look(flowId, runId);
    if (run && payload.seq > run.seq) this.put(apply(run, event, payload));
    if (!run && event === "flow_started") {
      this.put({ flowId, runId, status: "started", attempt: payload.attempt || 1, progress: 0, startedAt: payload.timestamp, nodes: {}, seq: payload.seq });
    }
    if (ENDED.has(payload.status) && event.startsWith("flow_")) this.look(flowId, runId);
  }

  async #next() {
    if (this.#asking >= AT_ONCE || !this.#queue.length) return;
    const { key, flowId, runId } = this.#queue.shift();
    this.#asking += 1;
    try {
      const { run } = await this.connection.call("/flows", "subscribe_flow", { flowId, runId });
      if (run) this.put(run);
      const goesOn = run && !ENDED.has(run.status);
      if (!goesOn && !this.#wanted.get(key)) await this.connection.call("/flows", "unsubscribe_flow", { flowId, runId });
    } catch {
      // The connection says what is wrong, and after it has come back all are asked for again.
    } finally {
      this.#asking -= 1;
      this.#next();
    }
    this.#next();
  }

  #forgetOldest() {
    for (const [key, run] of this.rows) {
      if (ENDED.has(run.status) && !this.#wanted.get(key)) {
        this.rows.delete(key);
        return;
      }
    }
    this.rows.delete(this.rows.keys().next().value);
  }

  #remember() {
    const last = [...this.rows.values()].slice(-REMEMBERED).map((run) => [run.flowId, run.runId]);
    this.connection.credentials.remember("runs", last);
  }

  #remembered() {
    return this.connection.credentials.recall("runs") || [];
  }
}

/** Return `run` after an event. */
export function apply(run, event, payload) {
  const next = { ...run, seq: payload.seq };
  const [what, kind] = [event.slice(0, 4), event.slice(5)];
  if (what === "node") {
    const before = run.nodes[payload.nodeId] || { attempt: 0 };
    const node = kind === "started"
      ? { status: "started", attempt: payload.attempt || before.attempt + 1, startedAt: payload.timestamp }
      : { ...before, attempt: payload.attempt || before.attempt || 1, status: kind };
    if (ENDED.has(kind) || kind === "skipped") node.finishedAt = payload.timestamp;
    if (payload.error !== undefined) node.error = payload.error;
    next.nodes = { ...run.nodes, [payload.nodeId]: node };
  } else if (kind === "progress") {
    next.progress = payload.progress;
  } else if (kind === "cancelling") {
    next.cancelling = { reason: payload.reason, at: payload.timestamp };
  } else if (kind !== "started") {
    next.status = kind;
    if (ENDED.has(kind)) next.finishedAt = payload.timestamp;
    if (payload.error !== undefined) next.error = payload.error;
  }
  return next;
}
