// What the HTTP API tells of the server: its nodes and clients. Asked again and again while somebody looks.
import { Store } from "../lib/store.js";

const EVERY_MS = 2_000;
// Of what is drawn as a curve: ten minutes.
const MOST_POINTS = 300;
const PAGE = 100;
// What is looked at: where it is asked for, how its rows are named, and by what they are narrowed.
const VIEWS = {
  clients: { path: "/connections", rows: "connections", by: ["userId", "tenant", "room"] },
  users: { path: "/presence", rows: "users", by: ["tenant"] },
};

export class Server extends Store {
  #timer = 0;
  #stopped = true;
  // Where each page so far began but the first; the last one is shown.
  #afters = [];

  constructor(credentials) {
    super();
    this.credentials = credentials;
    this.view = "clients";
    this.filter = { userId: "", tenant: "", room: "" };
    Object.assign(this, { nodes: null, rows: null, nextAfter: null, unanswered: [], error: "", done: "" });
    // Seconds, and events a second of all nodes together.
    this.points = [[], []];
  }

  /** Ask until `stop`. */
  start() {
    this.#stopped = false;
    this.refresh();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** Show `clients` or `users`, and those alone that fit; from the first page on. */
  narrow(filter, view = this.view) {
    this.filter = { ...this.filter, ...filter };
    if (view !== this.view) this.rows = null;
    this.view = view;
    this.#afters = [];
    this.refresh();
  }

  /** Tell whether the rows can be narrowed by a filter of this name. */
  isNarrowedBy(name) {
    return VIEWS[this.view].by.includes(name);
  }

  /** Return the number of the page that is shown, from 1 on. */
  get page() {
    return this.#afters.length + 1;
  }

  /** Show the page after this one, or before it. */
  turn(isForward) {
    if (isForward) this.#afters.push(this.nextAfter);
    else this.#afters.pop();
    this.refresh();
  }

  /** Ask now. */
  async refresh() {
    clearTimeout(this.#timer);
    const asked = (this.asked = {});
    const { path, rows, by } = VIEWS[this.view];
    const query = new URLSearchParams({ limit: PAGE });
    for (const name of by) if (this.filter[name]) query.set(name, this.filter[name]);
    if (this.#afters.length) query.set("after", this.#afters.at(-1));
    try {
      const [{ nodes }, found] = await Promise.all([
        this.credentials.api("GET", "/nodes"),
        this.credentials.api("GET", `${path}?${query}`),
      ]);
      if (asked !== this.asked) return;
      Object.assign(this, { nodes, rows: found[rows], nextAfter: found.nextAfter || null, unanswered: found.unanswered, error: "" });
      this.#point(nodes);
    } catch (error) {
      if (asked !== this.asked) return;
      // The answer's own code tells what isn't there from a server that doesn't know the question.
      const isOlder = error.status === 404 && !error.code;
      this.error = isOlder ? "This server does not tell who is connected: a later version does." : error.message;
    }
    this.changedNow();
    if (!this.#stopped) this.#timer = setTimeout(() => this.refresh(), EVERY_MS);
  }

  /** Close one client's connection. */
  close(sid) {
    return this.#act(`/connections/${encodeURIComponent(sid)}`, () => "The connection is being closed.");
  }

  /** Close all of a user's connections in a tenant. */
  closeUser(userId, tenant) {
    const query = new URLSearchParams({ userId, tenant });
    return this.#act(`/connections?${query}`, ({ closed }) => `${closed} connections of ${userId} are being closed.`);
  }

  async #act(path, sentence) {
    try {
      this.done = sentence(await this.credentials.api("DELETE", path));
    } catch (error) {
      this.done = error.message;
    }
    await this.refresh();
  }

  #point(nodes) {
    const [times, values] = this.points;
    times.push(Date.now() / 1000);
    values.push(nodes.reduce((sum, node) => sum + (node.eventsPerSecond || 0), 0));
    if (times.length > MOST_POINTS) {
      times.shift();
      values.shift();
    }
  }
}
