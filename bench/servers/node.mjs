// Node's Socket.IO with the events of namespace.py.

import { createServer } from "node:http";
import { Server } from "socket.io";

const TICK = 1;
const server = createServer((request, response) => response.end("ok"));
const io = new Server(server, { cors: { origin: "*" } });
let late = 0, ticking = false;

io.of("/bench").on("connection", (socket) => {
  socket.join("all");
  socket.on("ack", (text, answer) => answer(text));
  socket.on("broadcast", (count, size, at, local, answer) => {
    const payload = { at, data: "x".repeat(size) };
    const room = local ? io.of("/bench").local.to("all") : io.of("/bench").to("all");
    for (let sent = 0; sent < count; sent++) room.emit("event", payload);
    answer(null);
  });
  socket.on("ignore", (text, answer) => answer(null));
  socket.on("collect", (answer) => {
    global.gc();
    answer(null);
  });
  socket.on("gauge", (answer) => {
    if (!ticking) tick(performance.now());
    ticking = true;
    answer({ late });
    late = 0;
  });
});

function tick(began) {
  setTimeout(() => {
    late = Math.max(late, performance.now() - began - TICK);
    tick(performance.now());
  }, TICK);
}

server.listen(Number(process.env.PORT), "127.0.0.1");
process.on("SIGTERM", () => process.exit(0));
