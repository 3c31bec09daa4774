// One stock client of some namespaces that does what it reads from stdin, a JSON array a line, and prints a JSON line
// for everything that happens: [namespace, what, value, …].
// usage: comeback.mjs URL OPTIONS NAMESPACE...   (OPTIONS is a JSON object for io())
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const [url, options, ...namespaces] = process.argv.slice(2);
const say = (...line) => console.log(JSON.stringify(line));
const sockets = {};
for (const name of namespaces) {
  const socket = io(url + name, { reconnectionDelay: 50, reconnectionDelayMax: 200, ...JSON.parse(options) });
  sockets[name] = socket;
  socket.on("connect", () => say(name, "connect", { sid: socket.id, recovered: !!socket.recovered, pid: socket._pid }));
  socket.on("connect_error", (error) => say(name, "connect_error", error.message, error.data ?? null));
  socket.on("disconnect", (reason) => say(name, "disconnect", reason));
  socket.onAny((event, ...args) => say(name, "event", event, ...args));
}
createInterface({ input: process.stdin }).on("line", (line) => {
  const [name, act, ...args] = JSON.parse(line);
  const socket = sockets[name];
  if (act === "emit") socket.emit(...args, (answer) => say(name, "ack", answer));
  if (act === "send") socket.emit(...args);
  if (act === "auth") Object.assign(socket.auth, args[0]);
  if (act === "offset") socket._lastOffset = args[0] ?? undefined;
  if (act === "pid") socket._pid = args[0];
  if (act === "echo") {
    const text = "m".repeat(args[0]);
    socket.emit("echo", text, (answer) => say(name, "echoed", answer.length, answer === text));
  }
  if (act === "transport") say(name, "transport", socket.io.engine.transport.name);
  if (act === "disconnect") socket.disconnect();
  if (act === "connect") socket.connect();
});
