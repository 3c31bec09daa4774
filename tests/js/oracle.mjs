// Stock clients of the oracle, all in one process, each behind a TCP proxy of its own: what each saw goes to a file of
// JSON lines, [seconds of the monotonic clock, namespace, what, value, tenant, offset].
// usage: oracle.mjs JSON    {directory, seed, urls, recover, namespaces, clients: [{name, tenant, token, transports, room}]}
// Commands come as JSON lines and are answered by one line each:
//   {"do": "cut", "clients": […], "half": bool, "ms": n}   the connections break; half: the server doesn't hear of it
//                                              for 10 s; and so do the next ones that are made within n ms, soon
//   {"do": "stall", "clients": […], "ms": n}      the clients stop reading
//   {"do": "status"}    {"online": sockets, "of": sockets, "ends": events whose id begins with "end."}
//   {"do": "end"}       disconnects all and writes everything out
import { createWriteStream } from "node:fs";
import net from "node:net";
import { createInterface } from "node:readline";
import { Manager } from "socket.io-client";

const HALF_OPEN_MS = 10_000;
// How long a connection lasts at most on a network that fails again and again: about as long as a recovery takes.
const FAILING_MS = 200;
const { directory, seed, urls, recover, namespaces, clients } = JSON.parse(process.argv[2]);
const hosts = urls.map((url) => new URL(url));
const now = () => Number(process.hrtime.bigint() / 1000n) / 1e6;

// mulberry32
let state = seed >>> 0;
function random() {
  state = (state + 0x6d2b79f5) >>> 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
}

class Proxy {
  pairs = new Set();
  stalled = false;
  failing = 0;

  constructor() {
    this.move();
    this.server = net.createServer({ noDelay: true }, (near) => this.accept(near));
  }

  // Another host for the sessions to come, as a balancer would choose.
  move() {
    this.host = hosts[Math.floor(random() * hosts.length)];
  }

  accept(near) {
    const far = net.connect({ host: this.host.hostname, port: this.host.port, noDelay: true });
    const pair = { near, far };
    this.pairs.add(pair);
    far.on("data", (bytes) => near.write(bytes) || far.pause());
    near.on("drain", () => this.stalled || far.resume());
    near.on("data", (bytes) => far.write(bytes) || near.pause());
    far.on("drain", () => near.resume());
    far.on("end", () => near.end());
    near.on("end", () => pair.half || far.end());
    far.on("close", () => near.destroy());
    near.on("close", () => {
      if (!pair.half) far.destroy();
      this.pairs.delete(pair);
    });
    near.on("error", () => {});
    far.on("error", () => {});
    if (this.stalled) far.pause();
    if (now() < this.failing) setTimeout(() => this.cutOne(pair, random() < 0.5), random() * FAILING_MS);
  }

  cut(half, ms) {
    this.failing = now() + ms / 1000;
    for (const pair of [...this.pairs]) this.cutOne(pair, half);
  }

  cutOne(pair, half) {
    pair.half = half;
    pair.near.resetAndDestroy();
    if (half) {
      pair.far.pause();
      setTimeout(() => pair.far.destroy(), HALF_OPEN_MS).unref();
    } else {
      pair.far.resetAndDestroy();
    }
  }

  stall(ms) {
    this.stalled = true;
    for (const { far } of this.pairs) far.pause();
    setTimeout(() => {
      this.stalled = false;
      for (const { far } of this.pairs) far.resume();
    }, ms);
  }
}

class Client {
  ends = 0;

  constructor({ name, tenant, token, transports, room }) {
    this.file = createWriteStream(`${directory}/${name}~${tenant}.seen`);
    this.proxy = new Proxy();
    this.room = room;
    this.auth = recover ? { token, recover: true } : { token };
    this.transports = transports;
  }

  async start() {
    await new Promise((listening) => this.proxy.server.listen(0, "127.0.0.1", listening));
    const options = { forceNew: true, ...(this.transports && { transports: this.transports }) };
    this.manager = new Manager(`http://127.0.0.1:${this.proxy.server.address().port}`, options);
    this.manager.on("close", () => this.proxy.move());
    this.sockets = namespaces.map((namespace) => this.follow(namespace));
    this.manager.open();
  }

  follow(namespace) {
    const socket = this.manager.socket(namespace, { auth: this.auth });
    const say = (...line) => this.file.write(JSON.stringify([now(), namespace, ...line]) + "\n");
    const [command, payload] = { "/flows": ["subscribe_flow", { flowId: this.room }],
      "/workspaces": ["join_workspace", { workspaceId: this.room, deltas: true }] }[namespace] ?? [];
    let joined = !command;
    const join = () => {
      if (joined || !socket.connected) return;
      const id = socket.id;
      socket.timeout(4000).emit(command, payload, (error, answer) => {
        if (socket.id !== id || joined) return;
        if (error || !answer.ok) return setTimeout(join, 200);
        joined = true;
        say("joined", this.room);
      });
    };
    socket.on("connect", () => {
      say("connect", socket.recovered ? "recovered" : "fresh");
      if (!socket.recovered) joined = !command;
      join();
    });
    socket.on("disconnect", (reason) => say(socket.active ? "lost" : "refused", reason));
    socket.on("connect_error", (error) => socket.active || say("refused", `${error.message} ${JSON.stringify(error.data)}`));
    socket.onAny((event, payload, ...rest) => {
      const own = payload?.log?.metadata ?? payload?.patch?.[0]?.value ?? payload;
      const offset = typeof rest.at(-1) === "string" ? rest.at(-1) : null;
      if (event === "resync") say("resync", payload?.reason ?? "");
      else if (own?.id === undefined) say("other", event);
      else {
        say("event", own.id, own.tenant, offset);
        if (own.id.startsWith("end.")) this.ends++;
      }
    });
    return socket;
  }

  async end() {
    for (const socket of this.sockets) {
      socket.off();
      socket.offAny();
      socket.disconnect();
    }
    this.proxy.server.close();
    await new Promise((written) => this.file.end(written));
  }
}

const crowd = clients.map((client) => new Client(client));
for (const client of crowd) await client.start();
const sockets = crowd.flatMap((client) => client.sockets);

const answers = {
  cut: ({ clients, half, ms }) => clients.forEach((place) => crowd[place].proxy.cut(half, ms)),
  stall: ({ clients, ms }) => clients.forEach((place) => crowd[place].proxy.stall(ms)),
  status: () => ({
    online: sockets.filter((socket) => socket.connected).length,
    of: sockets.length,
    ends: crowd.reduce((sum, client) => sum + client.ends, 0),
  }),
  end: () => Promise.all(crowd.map((client) => client.end())),
};

console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const answer = await answers[command.do](command);
  console.log(JSON.stringify(command.do === "status" ? answer : {}));
  if (command.do === "end") process.exit(0);
}
