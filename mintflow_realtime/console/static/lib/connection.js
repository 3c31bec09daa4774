// The page's own connection: one of the stock client, a namespace for each panel, and what has happened to it.
import { Manager } from "../../vendor/socket.io.esm.min.js";
import { Store } from "./store.js";
import { at } from "./text.js";

const ANSWER_MS = 20_000;
// For how long the bar tells of something that is over.
const TOLD_MS = 15_000;
// An event that is this old when it comes was waiting somewhere.
const BEHIND_MS = 3_000;

export class CommandError extends Error {
  constructor(error) {
    super(error?.message || "The server has not answered");
    this.code = error?.code || "unavailable";
    this.details = error || {};
  }
}

export class Connection extends Store {
  #sockets = new Map();
  #fresh = [];
  #skew = null;

  constructor(credentials) {
    super();
    this.credentials = credentials;
    // One of its own: `io` would share an older one, after another has signed in.
    this.manager = new Manager({ path: credentials.who.socketPath });
    this.recovered = { count: 0, at: 0 };
    this.resync = { reason: "", at: 0 };
    this.behind = { ms: 0, at: 0 };
    this.refusal = null;
    // Until when the token holds, ISO 8601; said by the server when that is soon.
    this.endsAt = null;
    this.hasConnected = false;
  }

  /** Connect to a namespace, once; return its socket. */
  open(namespace) {
    if (this.#sockets.has(namespace)) return this.#sockets.get(namespace);
    const { credentials } = this;
    const socket = this.manager.socket(namespace, {
      auth: (answer) =>
        credentials.forOneUse().then(
          (token) => answer({ token, tenantId: credentials.tenant, recover: true }),
          (error) => (error.status < 500 ? this.#refused(error) : setTimeout(() => socket.disconnect().connect(), 2000)),
        ),
    });
    this.#sockets.set(namespace, socket);
    this.#follow(namespace, socket);
    return socket;
  }

  /** Call `listener` with each event of a namespace: its payload. */
  on(namespace, event, listener) {
    this.open(namespace).on(event, listener);
  }

  /** Call `listener` whenever what was known of a namespace may be old: at the first connect, and after gaps. */
  onFresh(namespace, listener) {
    this.#fresh.push([namespace, listener]);
    if (this.open(namespace).connected) listener();
  }

  /** Send a command; return the data of its answer. Throws CommandError. */
  async call(namespace, command, payload = {}) {
    let answer;
    try {
      answer = await this.open(namespace).timeout(ANSWER_MS).emitWithAck(command, payload);
    } catch {
      throw new CommandError(null);
    }
    if (!answer.ok) throw new CommandError(answer.error);
    return answer.data;
  }

  close() {
    for (const socket of this.#sockets.values()) socket.disconnect();
  }

  /** Return `{state, text}`: connected, reconnecting, recovered, behind, resync, ending, refused or connecting. */
  status(now = Date.now()) {
    const sockets = [...this.#sockets.values()];
    if (this.refusal) return { state: "refused", text: `Refused: ${this.refusal.message}` };
    if (!sockets.every((socket) => socket.connected)) {
      return this.hasConnected ? { state: "reconnecting", text: "Reconnecting" } : { state: "connecting", text: "Connecting" };
    }
    const told = [
      { at: this.resync.at, state: "resync", text: `Connected; fetched anew (${this.resync.reason})` },
      { at: this.recovered.at, state: "recovered", text: `Connected; recovered ${this.recovered.count} events` },
      { at: this.behind.at, state: "behind", text: `Connected; ${(this.behind.ms / 1000).toFixed(0)} s behind` },
    ];
    const last = told.reduce((a, b) => (b.at > a.at ? b : a));
    if (now - last.at < TOLD_MS) return last;
    if (this.endsAt) return { state: "ending", text: `Connected; signed in until ${at(this.endsAt)}` };
    return { state: "connected", text: "Connected" };
  }

  /** Return the name of the transport in use, "" while there is none. */
  transport() {
    return this.manager.engine?.transport?.name || "";
  }

  #follow(namespace, socket) {
    let isBack = false;
    let missed = 0;
    socket.on("connect", () => {
      this.hasConnected = true;
      this.refusal = this.endsAt = null;
      if (isBack && socket.recovered) {
        this.recovered = { count: missed + (Date.now() - this.recovered.at < 2000 ? this.recovered.count : 0), at: Date.now() };
      } else {
        if (isBack && this.#fresh.some(([name]) => name === namespace)) this.resync = { reason: "not recovered", at: Date.now() };
        this.#tellFresh(namespace);
      }
      isBack = false;
      missed = 0;
      this.changedNow();
    });
    socket.on("disconnect", () => {
      isBack = true;
      this.changedNow();
    });
    socket.on("connect_error", (error) => {
      // Without a code it may pass, and the client tries again by itself.
      if (error.data?.code) this.#refused({ message: error.message, code: error.data.code });
      this.changed();
    });
    socket.on("auth_expiring", (payload) => {
      this.endsAt = payload.expiresAt;
      this.changed();
    });
    socket.on("resync", (payload) => {
      this.resync = { reason: String(payload?.reason ?? ""), at: Date.now() };
      this.#tellFresh(namespace);
      this.changed();
    });
    socket.onAny((event, payload) => {
      if (event === "position") return;
      // Those of a recovery come before "connect".
      if (isBack) missed += 1;
      else this.#measure(payload);
    });
  }

  #tellFresh(namespace) {
    for (const [name, listener] of this.#fresh) if (name === namespace) listener();
  }

  // Final: to ask again with the same would end the same.
  #refused(error) {
    this.refusal = error;
    this.close();
    this.changedNow();
  }

  // The clocks of server and browser differ: the least difference that was ever seen is taken for theirs.
  #measure(payload) {
    const sent = Date.parse(payload?.timestamp ?? payload?.log?.createdAt ?? payload?.createdAt);
    if (Number.isNaN(sent)) return;
    const age = Date.now() - sent;
    this.#skew = this.#skew === null ? age : Math.min(this.#skew, age);
    if (age - this.#skew > BEHIND_MS) {
      this.behind = { ms: age - this.#skew, at: Date.now() };
      this.changed();
    }
  }
}
