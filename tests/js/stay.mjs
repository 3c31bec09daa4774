// Many stock clients with default options: each connects by polling, upgrades, follows a flow, and stays. Prints one JSON
// line: what happened to them. usage: stay.mjs URL CLIENTS TOKEN API_KEY BYTES_OF_QUERY MILLISECONDS
import { io } from "socket.io-client";

const [url, clients, token, key, padding, limit] = process.argv.slice(2);
const report = { clients: 0, errors: {}, lost: {}, upgraded: 0, followed: 0, beaten: 0, heard: 0, stayed: 0 };
const sockets = [];
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const until = async (condition) => { while (!condition()) await pause(20); };
const count = (where, what) => { where[what] = (where[what] ?? 0) + 1; };

function finish(code) {
  for (const socket of sockets) socket.off("disconnect").disconnect();
  console.log(JSON.stringify(report));
  process.exit(code);
}
setTimeout(() => finish(0), Number(limit));

for (let number = 0; number < Number(clients); number++) {
  const query = Number(padding) ? { padding: "p".repeat(Number(padding)) } : {};
  const socket = io(url + "/flows", { forceNew: true, auth: { token }, query });
  sockets.push(socket);
  report.clients++;
  socket.io.on("open", () => socket.io.engine.once("upgrade", () => report.upgraded++));
  socket.io.once("ping", () => report.beaten++);
  socket.on("connect_error", (error) => count(report.errors, `${error.message} ${error.context?.status ?? ""}`));
  socket.on("disconnect", (reason) => count(report.lost, reason));
  socket.on("flow_progress", () => report.heard++);
  socket.once("connect", () => socket.emit("subscribe_flow", { flowId: "stay" }, (ack) => ack.ok && report.followed++));
  // So many at once as a deploy or a morning brings, not a flood: 500 in two seconds.
  if (number % 5 === 4) await pause(20);
}
const all = Number(clients);
await until(() => report.upgraded >= all && report.followed >= all && report.beaten >= all);
await fetch(`${url}/api/v1/flows/stay/runs/r/events`, {
  method: "POST",
  headers: { "X-API-Key": key, "Content-Type": "application/json" },
  body: JSON.stringify({ type: "flow_progress", progress: 1 }),
});
await until(() => report.heard >= all);
for (const socket of sockets) {
  const answered = socket.connected && socket.io.engine.transport.name === "websocket";
  if (answered) socket.emit("unsubscribe_flow", { flowId: "stay" }, (ack) => ack.ok && report.stayed++);
}
await until(() => report.stayed >= all);
finish(0);
