// Connects stock clients with default options, lets each ask for some acks, and reports what went wrong.
// Usage: node affinity.mjs URL CLIENTS ACKS MILLISECONDS
import { io } from "socket.io-client";

const [url, clients, acks, limit] = [process.argv[2], ...process.argv.slice(3).map(Number)];
const report = { connectErrors: 0, disconnects: 0, acked: 0, echoed: 0, upgraded: 0 };
const sockets = [];

function finish() {
  for (const socket of sockets) socket.off("disconnect").disconnect();
  console.log(JSON.stringify(report));
  process.exit(0);
}
setTimeout(finish, limit);

function ask(socket, left) {
  if (left === 0) return;
  socket.emit("echo", { left, bytes: Buffer.from([left, 0, 255]) }, (echo) => {
    if (echo.left === left && Buffer.from(echo.bytes).equals(Buffer.from([left, 0, 255]))) report.acked++;
    ask(socket, left - 1);
  });
}

const done = () => report.acked >= clients * acks && report.echoed >= clients * acks && report.upgraded >= clients;
setInterval(() => done() && finish(), 20);

for (let number = 0; number < clients; number++) {
  const socket = io(url, { forceNew: true, reconnectionDelay: 200, reconnectionDelayMax: 400 });
  sockets.push(socket);
  socket.io.on("open", () => socket.io.engine.once("upgrade", () => report.upgraded++));
  socket.on("connect_error", () => report.connectErrors++);
  socket.on("disconnect", () => report.disconnects++);
  socket.on("echoed", () => report.echoed++);
  socket.once("connect", () => ask(socket, acks));
}
