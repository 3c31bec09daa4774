// Node's Socket.IO with the namespaces of feed.py; ADAPTER is `redis` or `streams`.

import { createServer } from "node:http";
import { createAdapter as redisAdapter } from "@socket.io/redis-adapter";
import { createAdapter as streamsAdapter } from "@socket.io/redis-streams-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const client = createClient({ url: process.env.REDIS_URL });
await client.connect();
const server = createServer((request, response) => response.end("ok"));
const options = { cors: { origin: "*" } };
if (process.env.ADAPTER === "streams") {
  // The one of the two that can recover a connection's missed events.
  Object.assign(options, { adapter: streamsAdapter(client), connectionStateRecovery: {} });
} else {
  const second = client.duplicate();
  await second.connect();
  options.adapter = redisAdapter(client, second);
}
const io = new Server(server, options);
const now = () => Number(process.hrtime.bigint()) / 1e6;

let published = 0;

io.of("/feed").on("connection", (socket) => socket.join("all"));

io.of("/control").on("connection", (socket) => {
  socket.on("publish", (count, rate, size, answer) => {
    const data = "x".repeat(size), began = now();
    let sent = 0;
    const publish = () => {
      const due = Math.min(count, 1 + Math.floor((now() - began) * rate / 1000));
      for (; sent < due; sent++) io.of("/feed").to("all").emit("event", { at: now(), number: published++, data });
      if (sent === count) answer(null);
      else setTimeout(publish, Math.max(1, began + (sent * 1000) / rate - now()));
    };
    publish();
  });
});

server.listen(Number(process.env.PORT), "127.0.0.1");
process.on("SIGTERM", () => process.exit(0));
