// One client: Engine.IO 4 and Socket.IO 5 on a `ws` socket, with as little work a message as can be, so that the
// generator isn't what is measured.

import WebSocket from "ws";

const PATH = "/socket.io/?EIO=4&transport=";
const ADDRESSES = 16;
const PING = 0x32, MESSAGE = 0x34, CONNECT = 0x30, EVENT = 0x32, ACK = 0x33, DISCONNECT = 0x31;

export const tally = { events: 0, wanted: Infinity, enough: () => {}, seen: null, broken: 0 };

// Ports of one source address run out at 28,000.
export const source = (place) => `127.0.0.${1 + (place % ADDRESSES)}`;

export class Connection {
  constructor(port, place, namespace = "/bench", auth = "") {
    Object.assign(this, { port, place, namespace, auth });
    this.prefix = namespace === "/" ? "" : `${namespace},`;
    this.nextId = 0;
    this.answers = new Map();
    this.closing = false;
    this.closed = new Promise((resolve) => { this.isClosed = resolve; });
    this.joined = new Promise((resolve, reject) => Object.assign(this, { isJoined: resolve, failed: reject }));
  }

  // Take a socket: `sid` is the session that it continues.
  attach(sid) {
    const query = `${PATH}websocket${sid ? `&sid=${sid}` : ""}`;
    this.socket = new WebSocket(`ws://127.0.0.1:${this.port}${query}`, {
      localAddress: source(this.place), perMessageDeflate: false, skipUTF8Validation: true,
    });
    this.socket.on("message", (data) => this.take(data));
    this.socket.on("error", (error) => this.failed(error));
    this.socket.on("close", (code) => {
      if (!this.closing && !this.expected) tally.broken++;
      this.failed(new Error(`closed with ${code}`));
      this.isClosed();
      this.whenLost?.(code);
    });
  }

  open() {
    this.attach();
    return this.joined;
  }

  // A WebSocket and nothing else.
  openBare() {
    this.attach();
    this.socket.on("open", () => this.isJoined());
    return this.joined;
  }

  take(data) {
    if (data[0] === MESSAGE) {
      if (data[1] === EVENT) {
        if (this.each) this.each(data);
        if (tally.seen !== null) tally.seen(data, this);
        if (++tally.events === tally.wanted) tally.enough();
      } else if (data[1] === ACK) this.answered(data.toString());
      else if (data[1] === CONNECT) this.isJoined(data.toString());
      else if (data[1] === DISCONNECT || data[1] === 0x34) this.failed(new Error(data.toString()));
    } else if (data[0] === PING) this.socket.send("3");
    else if (data[0] === 0x30) this.socket.send(`40${this.prefix}${this.auth}`);
    else this.other?.(data);
  }

  answered(text) {
    const from = text.indexOf("[");
    const id = Number(text.slice(2 + this.prefix.length, from));
    const answer = this.answers.get(id);
    this.answers.delete(id);
    answer?.(text, from);
  }

  // `tail` is JSON text: what follows the event's name in the packet's array, commas included.
  emit(event, tail, answer) {
    const id = this.nextId++;
    this.answers.set(id, answer);
    this.socket.send(`42${this.prefix}${id}["${event}"${tail}]`);
  }

  call(event, ...args) {
    const tail = args.map((arg) => "," + JSON.stringify(arg)).join("");
    return new Promise((resolve, reject) => {
      this.closed.then(() => reject(new Error(`closed before ${event} was answered`)));
      this.emit(event, tail, (text, from) => resolve(JSON.parse(text.slice(from))[0]));
    });
  }

  drop() {
    this.closing = true;
    this.socket.terminate();
    return this.closed;
  }

  close() {
    this.closing = true;
    this.socket.close();
    return this.closed;
  }
}
