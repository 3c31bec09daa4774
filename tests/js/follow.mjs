// Connects with default options, prints every event as a JSON line, and runs the commands given on the command line.
// usage: follow.mjs URL SECONDS [NAMESPACE COMMAND PAYLOAD]...
import { io } from "socket.io-client";

const [url, seconds, ...rest] = process.argv.slice(2);
const say = (line) => console.log(JSON.stringify(line));
const sockets = {};
for (const name of ["/logs", "/flows"]) {
  const socket = (sockets[name] = io(url + name));
  socket.on("connect", () => say({ namespace: name, connected: socket.id }));
  socket.on("connect_error", (error) => say({ namespace: name, refused: error.message, data: error.data }));
  socket.on("disconnect", (reason) => say({ namespace: name, disconnected: reason }));
  socket.onAny((event, payload) => say({ namespace: name, event, payload }));
}
for (let i = 0; i < rest.length; i += 3) {
  const [namespace, command, payload] = rest.slice(i, i + 3);
  sockets[namespace].emit(command, JSON.parse(payload), (ack) => say({ namespace, command, ack }));
}
setTimeout(() => process.exit(0), Number(seconds) * 1000);
